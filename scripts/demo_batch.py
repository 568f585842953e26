"""What `make demo-batch` runs: a corpus of drawn videos, some bad; the run is killed and resumed.

Every step is the command a user would type; the script prints each before it runs it. It ends with
1 where the final set is not complete, or an id is in it twice.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from groundserve.batch.status import read_status
from groundserve.cli.demo import BIN, run

SEED = 7
NUM_FRAMES = 24
NUM_QUESTIONS = 2
"""Of each video."""
BAD = ("Unreadable", "Unreadable", "Missing")
"""Errors of the last three videos: one is cut short, one is no video, one is missing."""
PATIENCE_SECONDS = 120.0


def write_corpus(out: Path, num_videos: int) -> tuple[Path, dict[str, str | None]]:
    """Draw videos and harm three; returns the manifest, and of each id the error it must have."""
    shown = ["-m", "train.digits.dataset", "--out", str(out), "--split", "test"]
    shown += ["--seed", str(SEED), "--num-videos", str(num_videos)]
    records = run("python", *shown, "--num-frames", str(NUM_FRAMES)).strip()
    videos = sorted((out / "videos").iterdir())
    truncated, text, missing = videos[-len(BAD) :]
    os.truncate(truncated, truncated.stat().st_size // 2)
    text.write_text("This is no video.\n")
    missing.unlink()
    kinds = dict(zip([f"videos/{path.name}" for path in videos[-3:]], BAD, strict=True))
    asked: Counter[str] = Counter()
    errors, rows = {}, []
    for record in json.loads(Path(records).read_text("utf-8")):
        video = record["video"]
        asked[video] += 1
        if asked[video] <= NUM_QUESTIONS:
            query = record["question"].removeprefix("<image>\n")
            rows.append(json.dumps({"id": record["id"], "video": video, "query": query}) + "\n")
            errors[record["id"]] = kinds.get(video)
    manifest = out / "manifest.jsonl"
    manifest.write_text("".join(rows), "utf-8")
    return manifest, errors


def run_and_kill(command: list[str], directory: Path, *, num_done: int) -> None:
    """Run a command until some rows are done, then kill it and all processes of its group."""
    print(f"\n$ {shlex.join(command)} &", flush=True)
    process = subprocess.Popen([BIN / command[0], *command[1:]], start_new_session=True)
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        while read_status(str(directory)).num_done < num_done:
            if process.poll() is not None:
                sys.exit(f"the run ended by itself with {process.returncode} before it was killed")
            if time.monotonic() > end:
                sys.exit(f"the run has not done {num_done} rows within {PATIENCE_SECONDS:g} s")
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            print(f"\n$ kill -9 -{process.pid}", flush=True)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder for all of it")
    parser.add_argument("--num-videos", type=int, default=30, help="three of them are bad")
    parser.add_argument("--engines", help="engine directory; the shipped checkpoint's if left out")
    arguments = parser.parse_args()
    if arguments.num_videos <= 2 * len(BAD):
        parser.error(f"--num-videos must be > {2 * len(BAD)}")
    started = time.perf_counter()
    arguments.out.mkdir(parents=True)
    manifest, errors = write_corpus(arguments.out / "corpus", arguments.num_videos)
    directory = arguments.out / "run"
    batch = ["groundserve", "batch", str(manifest), "--out", str(directory)]
    batch += ["--workers", "2", "--top-k", "4", "--price-per-hour", "0.1"]
    batch += ["--engines", arguments.engines] if arguments.engines else []
    num_rows = arguments.num_videos * NUM_QUESTIONS
    run_and_kill(batch, directory, num_done=num_rows // 4)
    run("groundserve", "batch", "status", str(directory))
    run(*batch, "--resume")
    tables = [
        pq.read_table(one, columns=["id", "error_kind"]) for one in directory.rglob("*.parquet")
    ]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    num_failed = sum(kind is not None for kind in errors.values())
    print(f"\n{len(rows)} rows for {len(errors)} ids, {num_failed} of them with their error")
    print(f"{time.perf_counter() - started:.1f} s in all")
    if Counter(rows) != Counter(errors.items()):
        sys.exit("WRONG: the set does not have each id once, with its error")
    print(f"open {(directory / 'report.html').resolve().as_uri()}")


if __name__ == "__main__":
    main()
