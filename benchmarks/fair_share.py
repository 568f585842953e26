"""How long does an honest request wait beside costly ones, without and with the bounds on them?

python -m benchmarks.fair_share [--seconds 40 | --costs] [--out JSON]

One client asks about a small video over and over; beside it others send the attack as fast as it is
answered or refused:

- "video": 4 at once upload 22 kB of H.264, 512 frames of 2048 x 2048 in one group of pictures, so
  that each chunk is decoded from the start of the file;
- "text": 4 at once ask 32 questions of 16 KiB each about a small video;
- "light-video", "short-text": the same with as much as is let in, a video just below what counts as
  costly, and questions of 16 and 8 KiB.

The first two are sent to a server without the bounds too. A server is the `cpu` profile of the
shipped checkpoint `digits`, without a cache. Ordinary answers must be the same bits all along. The
report also says what honest videos cost to decode, which is counted: `--costs` does nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._load import Outcome, Request, same_answer
from benchmarks._report import spread, write_report
from engine_build import build
from engine_build.triton.__main__ import REFERENCE_MODEL
from groundserve import Client, ScoreOptions
from groundserve.families.videoitg.plan import plan_video
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES
from groundserve.media import VideoIndex
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer
from python_backend.fair_share import LIGHT_PIXELS_VARIABLE
from python_backend.units import decoded_pixels
from tests.media_assets import H264, ONE_LARGE_GOP, asset_maker

NUM_ATTACKERS = 4
PAUSE_SECONDS = 0.2
"""Between two honest requests, and after a refusal of an attacker's."""
MAX_QUERIES = 32
MAX_QUERY_BYTES = 16 * 1024
LIGHT_FRAMES = 224
"""Of 2048 x 2048 together: 0.94 gigapixels."""
PAST_BOUNDS = ("video", "text")
"""Attacks that the bounds are there for."""
UNBOUNDED = {
    LIGHT_PIXELS_VARIABLE: str(10**17),
    "GROUNDSERVE_MAX_TEXT_BYTES": str(MAX_QUERIES * MAX_QUERY_BYTES),
}
"""Settings of a server without them."""
HONEST_VIDEOS = {
    "10 s of 1080p": (10, 1920, 1080),
    "1 minute of 720p": (60, 1280, 720),
    "3 minutes of 1080p": (180, 1920, 1080),
    "45 minutes of 1080p": (2700, 1920, 1080),
    "45 minutes of 4K": (2700, 3840, 2160),
    "6 hours of 360p": (21600, 640, 360),
}
"""Seconds, width, height, at 30 frames a second with a key frame every 10 s."""


def make_attacks(make: Callable[..., Path]) -> dict[str, Request]:
    """Return each attack's request."""
    small = make(H264).read_bytes()
    *arguments, _ = ONE_LARGE_GOP.arguments
    light = replace(ONE_LARGE_GOP, name="light.mp4", arguments=(*arguments, str(LIGHT_FRAMES)))
    text = ("which " * MAX_QUERY_BYTES)[:MAX_QUERY_BYTES]
    all_frames = ScoreOptions(num_frames=432, sampling="infer", sample_fps=1e9)
    one_chunk = replace(all_frames, num_frames=CHUNK_FRAMES)
    few_frames = ScoreOptions(num_frames=8, sampling="infer")
    return {
        "video": Request(make(ONE_LARGE_GOP).read_bytes(), ("When?",), all_frames),
        "text": Request(small, (text,) * MAX_QUERIES, few_frames),
        "light-video": Request(make(light).read_bytes(), ("When?",), one_chunk),
        "short-text": Request(small, (text, text[: MAX_QUERY_BYTES // 2]), few_frames),
    }


def honest_gigapixels() -> dict[str, float]:
    """Return what ordinary videos decode to with the default options."""
    found = {}
    for name, (seconds, width, height) in HONEST_VIDEOS.items():
        num_frames, fps = seconds * 30, 30.0
        index = VideoIndex(
            average_fps=fps,
            pts_seconds=np.arange(num_frames) / fps,
            is_key=np.arange(num_frames) % 300 == 0,
            width=width,
            height=height,
            codec_name="h264",
            container_name="mp4",
        )
        plan = plan_video(index, ScoreOptions(), REFERENCE_MODEL, Limits())
        found[name] = decoded_pixels(plan) / 1e9
    return found


@contextmanager
def attackers(url: str, request: Request) -> Iterator[list[Outcome]]:
    """Send the request from all attackers until the block ends; gives what came of each."""
    outcomes: list[Outcome] = []
    stop = threading.Event()

    def attack() -> None:
        with Client(url) as client:
            while not stop.is_set():
                outcome = Outcome.of(partial(request.send, client))
                outcomes.append(outcome)
                if outcome.code != "ok":
                    stop.wait(PAUSE_SECONDS)

    with ThreadPoolExecutor(NUM_ATTACKERS) as pool:
        for _ in range(NUM_ATTACKERS):
            pool.submit(attack)
        try:
            yield outcomes
        finally:
            stop.set()


def ask_for(client: Client, request: Request, seconds: float) -> list[Outcome]:
    """Ask again and again; at least once."""
    outcomes: list[Outcome] = []
    until = time.monotonic() + seconds
    while not outcomes or time.monotonic() < until:
        outcomes.append(Outcome.of(partial(request.send, client)))
        time.sleep(PAUSE_SECONDS)
    return outcomes


def describe(outcomes: list[Outcome]) -> dict[str, Any]:
    """Say how requests went."""
    seconds = [outcome.seconds for outcome in outcomes]
    return {
        "answers": dict(Counter(outcome.code for outcome in outcomes)),
        "seconds": spread(seconds) | {"max": max(seconds)} if seconds else {},
    }


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of this process, which a server that it starts inherits."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def serve_and_attack(
    engines: Path, honest: Request, attacks: dict[str, Request], seconds: float
) -> dict[str, Any]:
    """Ask a server of its own alone, then beside each attack."""
    with (
        TritonServer(
            engines,
            http_port=0,
            grpc_port=0,
            metrics_port=0,
            log_file=engines.with_suffix(".log"),
        ) as server,
        Client(url := f"grpc://{server.grpc_address}") as client,
    ):
        first = honest.send(client)
        results: dict[str, Any] = {"alone": describe(ask_for(client, honest, seconds / 4))}
        for name, attack in attacks.items():
            with attackers(url, attack) as sent:
                time.sleep(PAUSE_SECONDS)
                beside = ask_for(client, honest, seconds)
            answers = [outcome.result for outcome in beside if outcome.result is not None]
            results[name] = {
                "honest": describe(beside),
                "attackers": describe(sent),
                "same_bits": all(same_answer(first, answer) for answer in answers),
            }
    return results


def main() -> None:
    """Measure without the bounds, then with them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40, help="of each load")
    parser.add_argument("--costs", action="store_true", help="of honest videos, without a load")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    costs = {"honest_gigapixels": honest_gigapixels()}
    if args.costs:
        write_report(args.out, "what honest videos cost to decode", costs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = asset_maker(folder)
        attacks = make_attacks(make)
        past_bounds = {name: attacks[name] for name in PAST_BOUNDS}
        honest = Request(
            make(H264).read_bytes(), ("When?",), ScoreOptions(num_frames=16, sampling="infer")
        )
        build(SHIPPED_CHECKPOINT, folder / "engines", profile="cpu")
        with environment(UNBOUNDED):
            without = serve_and_attack(folder / "engines", honest, past_bounds, args.seconds)
        bounded = serve_and_attack(folder / "engines", honest, attacks, args.seconds)
    results = {
        **costs,
        "without_bounds": without,
        "with_bounds": bounded,
    }
    write_report(args.out, "how long an honest request waits beside costly ones", results)


if __name__ == "__main__":
    main()
