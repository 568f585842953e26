"""`groundserve demo`: build, serve, score a drawn video, draw pictures; ask when things happen.

Every step is the command a user would type; it is printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from groundserve import extras
from groundserve.cli._checks import check_input
from groundserve.errors import GroundserveError
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT

# The environment that runs this need not be activated.
BIN = Path(sys.executable).parent
ASKED_TYPES = ("semantic", "semantic_motion", "order")
SEED = 7
# The shipped checkpoint knows digits only: on a real video it shows that decoding works, no more.
VIDEO_QUERY = "Which frames show a seven?"


def command(
    out: Annotated[
        Path, typer.Option(help="Folder for the video, the engines and the pictures.")
    ] = Path("demo"),
    video: Annotated[
        Path | None, typer.Option(help="A video of yours that is scored as well.")
    ] = None,
) -> None:
    """Draw a video, build engines, serve them, score the video, stop the server, and ask.

    The checkpoints are the small ones that come with groundserve, which know handwritten digits.

    Example: [bold]groundserve demo --out demo[/bold]
    """
    if video is not None:
        check_input(video)
    # Before anything is written: what draws and what builds.
    extras.load("train.digits.dataset", "demo")
    extras.load("engine_build", "demo")
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    drawn, records = _draw_video(out / "digits")
    engines = out / "engines"
    run("groundserve", "build", "--checkpoint", str(SHIPPED_CHECKPOINT), "--out", str(engines))
    serve = ["serve", "--engines", str(engines), "--json", "--log-file", str(out / "triton.log")]
    # Port 0 is any free one; the line that `serve --json` prints says which.
    serve += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    print(f"\n$ groundserve {shlex.join(serve)} &", flush=True)
    server = subprocess.Popen([BIN / "groundserve", *serve], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        # It comes when the models are ready, or the pipe ends because the server did.
        line = server.stdout.readline()
        if not line:
            raise GroundserveError(f"the server did not start; see {out / 'triton.log'}")
        print(line, end="", flush=True)
        _score(out, drawn, records, video, address=json.loads(line)["grpc"])
    finally:
        server.terminate()
        server.wait(timeout=30)
    _ask(drawn, records)
    print(f"\n{out}/ holds the video, the pictures, answer.json and triton.log")
    print(f"{time.perf_counter() - started:.1f} s in all")


def run(*args: str) -> str:
    """Run one command and return what it printed; its errors and notes pass through."""
    print(f"\n$ {shlex.join(args)}", flush=True)
    try:
        said = subprocess.check_output([str(BIN / args[0]), *args[1:]], text=True)
    except subprocess.CalledProcessError as error:
        raise GroundserveError(f"{shlex.join(args)} failed with {error.returncode}") from None
    print(said, end="", flush=True)
    return said


def _draw_video(out: Path) -> tuple[Path, list[dict[str, object]]]:
    """Write a MovingDigits video that nothing was trained on; return it and what is asked."""
    shown = ["-m", "train.digits.dataset", "--out", str(out), "--split", "test"]
    records = run("python", *shown, "--seed", str(SEED), "--num-videos", "1").strip()
    # The first of each: the question about something absent has a type too, and comes last.
    by_type = {one["type"]: one for one in reversed(json.loads(Path(records).read_text("utf-8")))}
    return out / "videos" / "00000.mp4", [by_type[kind] for kind in ASKED_TYPES]


def _score(
    out: Path,
    drawn: Path,
    records: list[dict[str, object]],
    video: Path | None,
    *,
    address: str,
) -> None:
    # The labels are seconds: rule A at one frame a second makes seconds and frames the same.
    sampling = ["--sampling", "infer", "--sample-fps", "1", "--top-k", "4"]
    common = [
        "groundserve",
        "score",
        str(drawn),
        *_queries(records),
        "--server",
        address,
        *sampling,
    ]
    pictures = ["--contact-sheet", str(out / "contact_sheet.png")]
    run(*common, *pictures, "--plot", str(out / "scores.png"))
    # A second time: a command prints a table or, with --json, JSON.
    answer = run(*common, "--json")
    (out / "answer.json").write_text(answer)
    _show_truth(answer, records)
    if video is not None:
        real = ["groundserve", "score", str(video), "--query", VIDEO_QUERY, "--server", address]
        run(*real, "--top-k", "4", "--contact-sheet", str(out / "real_clip.png"))


def _ask(drawn: Path, records: list[dict[str, object]]) -> None:
    """Ask the model that answers in text when things happen, without a server."""
    run("groundserve", "ask", str(drawn), *_queries(records))
    print("the questions' own labels:")
    for record in records:
        seconds: list[int] = record["frame_num"]  # type: ignore[assignment]
        print(f"  {seconds[0]} s to {seconds[-1] + 1} s  {_question(record)}")


def _queries(records: list[dict[str, object]]) -> list[str]:
    return [word for record in records for word in ("--query", _question(record))]


def _question(record: dict[str, object]) -> str:
    return str(record["question"]).removeprefix("<image>\n")


def _show_truth(answer: str, records: list[dict[str, object]]) -> None:
    """Print which of the selected frames are among those that answer each question."""
    print("\nselected frames that are right (the questions' own labels):")
    for query, record in zip(json.loads(answer)["queries"], records, strict=True):
        labelled = {float(str(second)) for second in record["frame_num"]}  # type: ignore[attr-defined]
        right = sum(second in labelled for second in query["selected_seconds"])
        possible = min(len(labelled), len(query["selected_seconds"]))
        print(f"  {right} of {possible}  {query['query']}")
