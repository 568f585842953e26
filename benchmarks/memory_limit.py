"""Whom does the kernel kill when a video takes more memory than the service may have?

python -m benchmarks.memory_limit [--runs 3] [--limit-bytes 1300000000] [--out JSON]
    [--max-frame-pixels 67108864]

Runs `groundserve serve` in a memory cgroup of its own (version 1 or 2; creating one takes root),
uploads two videos of 8192 x 8192 at once and says who died, of the processes that lived before (a
worker may start for an upload), and what the callers were told; then
whether a small video is scored. With the default ceiling on pixels such videos are refused before
they are decoded; `--max-frame-pixels` lets them in. Exits with 1 where tritonserver died.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import psutil

from benchmarks._report import write_report
from benchmarks.kills import is_alive, kind_of
from groundserve import Client
from groundserve.errors import GroundserveError
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT

SIDE_PIXELS = 8192
NUM_FRAMES = 24
NUM_UPLOADS = 2
_VERSION_1 = Path("/sys/fs/cgroup/memory")
_VERSION_2 = Path("/sys/fs/cgroup")


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """Make a cgroup with a limit on memory and remove it, empty, afterwards."""
    parent, limit = _VERSION_2, "memory.max"
    if (_VERSION_1 / "memory.limit_in_bytes").exists():
        parent, limit = _VERSION_1, "memory.limit_in_bytes"
    cgroup = parent / f"groundserve-{secrets.token_hex(4)}"
    cgroup.mkdir()
    try:
        (cgroup / limit).write_text(str(limit_bytes))
        yield cgroup
    finally:
        while (cgroup / "cgroup.procs").read_text():
            time.sleep(0.1)
        cgroup.rmdir()


@contextmanager
def service_in(cgroup: Path, engines: Path, folder: Path, **variables: str) -> Iterator[Any]:
    """Run `groundserve serve` in a cgroup; yields its process and its gRPC address."""
    words = ["serve", "--engines", engines, "--json", "--log-file", folder / "triton.log"]
    words += ["--http-port", 0, "--grpc-port", 0, "--metrics-port", 0]
    serve = [sys.executable, "-c", "from groundserve.cli.main import main; main()", *words]
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
    command = ["sh", "-c", enter, "sh", *map(str, serve)]
    with (
        (folder / "events.jsonl").open("ab") as events,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=events, env={**os.environ, **variables}
        ) as program,
    ):
        assert program.stdout is not None
        try:
            yield psutil.Process(program.pid), json.loads(program.stdout.readline())["grpc"]
        finally:
            program.terminate()


def family(root: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Return the processes of the service by kind."""
    found: dict[str, list[psutil.Process]] = {"server": [], "stub": [], "worker": []}
    for process in root.children(recursive=True):
        if (words := process.cmdline()) and (kind := kind_of(words)):
            found[kind].append(process)
    return found


def outcome_of(address: str, video: bytes) -> str:
    """Upload a video; return "ok", or what the caller is told."""
    with Client(address, timeout_seconds=120) as client:
        try:
            client.score(video, "When does something move?")
        except GroundserveError as error:
            return f"{type(error).__name__}: {error}"
        return "ok"


def run_once(engines: Path, videos: list[bytes], small: bytes, limit: int, pixels: int) -> Any:
    """Upload the large videos at once, then the small one."""
    variables = {"GROUNDSERVE_MAX_FRAME_PIXELS": str(pixels)} if pixels else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        memory_cgroup(limit) as cgroup,
        service_in(cgroup, engines, Path(folder), **variables) as (root, address),
    ):
        outcome_of(address, small)  # the workers start at the first request
        before = family(root)
        with ThreadPoolExecutor(len(videos)) as pool:
            told = list(pool.map(lambda video: outcome_of(address, video), videos))
        time.sleep(1)
        return {
            "processes": {kind: len(processes) for kind, processes in before.items()},
            "died": {
                kind: sum(not is_alive(process) for process in processes)
                for kind, processes in before.items()
            },
            "told": told,
            "small_video_after": outcome_of(address, small),
        }


def make_video(path: Path, side_pixels: int) -> bytes:
    """Encode a test pattern as H.264."""
    source = f"testsrc2=size={side_pixels}x{side_pixels}:rate=25"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi"]
    command += ["-i", source, "-frames:v", str(NUM_FRAMES), "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-preset", "ultrafast", str(path)], check=True)
    return path.read_bytes()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit-bytes", type=int, default=1_300_000_000)
    parser.add_argument("--max-frame-pixels", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from engine_build import build

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = folder / "engines"
        build(SHIPPED_CHECKPOINT, engines, profile="cpu")
        large = make_video(folder / "large.mp4", SIDE_PIXELS)
        small = make_video(folder / "small.mp4", 256)
        results = [
            run_once(
                engines,
                [large] * NUM_UPLOADS,
                small,
                arguments.limit_bytes,
                arguments.max_frame_pixels,
            )
            for _ in range(arguments.runs)
        ]
    write_report(
        arguments.out, "whom does the kernel kill under a memory limit?", {"runs": results}
    )
    if any(run["died"]["server"] for run in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
