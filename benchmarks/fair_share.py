"""How long does an honest request wait beside costly ones? Alone, then beside each attack.

python -m benchmarks.fair_share [--seconds 40] [--attacks video text] [--out JSON]

One client asks about a small video over and over; beside it others send the attack as fast as it is
answered or refused:

- "video": 4 at once upload 23 KB of H.264, 512 frames of 2048 x 2048 in one group of pictures, so
  that each chunk is decoded from the start of the file;
- "text": 4 at once ask 32 questions of 16 KiB each about a small video.

The server is the `cpu` profile of the shipped checkpoint `digits`, without a cache. Ordinary
answers must be the same bits all along.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._load import Outcome, Request, same_answer
from benchmarks._report import spread, write_report
from engine_build import build
from groundserve import Client, ScoreOptions
from groundserve.cli.shipped import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer
from tests.media_assets import H264, ONE_LARGE_GOP, asset_maker

NUM_ATTACKERS = 4
PAUSE_SECONDS = 0.2
"""Between two honest requests, and after a refusal of an attacker's."""
MAX_QUERIES = 32
MAX_QUERY_BYTES = 16 * 1024


def make_attacks(make: Callable[..., Path]) -> dict[str, Request]:
    """Return each attack's request."""
    small = make(H264).read_bytes()
    text = ("which " * MAX_QUERY_BYTES)[:MAX_QUERY_BYTES]
    return {
        "video": Request(
            make(ONE_LARGE_GOP).read_bytes(),
            ("When?",),
            ScoreOptions(num_frames=432, sampling="infer", sample_fps=1e9),
        ),
        "text": Request(small, (text,) * MAX_QUERIES, ScoreOptions(num_frames=8, sampling="infer")),
    }


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


def main() -> None:
    """Serve, ask alone, then beside each attack."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40, help="of each load")
    attacks_all = ("video", "text")
    parser.add_argument("--attacks", nargs="+", choices=attacks_all, default=attacks_all)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = asset_maker(folder)
        attacks = make_attacks(make)
        honest = Request(
            make(H264).read_bytes(), ("When?",), ScoreOptions(num_frames=16, sampling="infer")
        )
        build(SHIPPED_CHECKPOINT, folder / "engines", profile="cpu")
        with (
            TritonServer(
                folder / "engines",
                http_port=0,
                grpc_port=0,
                metrics_port=0,
                log_file=folder / "tritonserver.log",
            ) as server,
            Client(url := f"grpc://{server.grpc_address}") as client,
        ):
            first = honest.send(client)
            alone = ask_for(client, honest, args.seconds / 4)
            results["alone"] = describe(alone)
            for attack in args.attacks:
                with attackers(url, attacks[attack]) as sent:
                    time.sleep(PAUSE_SECONDS)
                    beside = ask_for(client, honest, args.seconds)
                answers = [outcome.result for outcome in beside if outcome.result is not None]
                results[attack] = {
                    "honest": describe(beside),
                    "attackers": describe(sent),
                    "same_bits": all(same_answer(first, answer) for answer in answers),
                }
    write_report(args.out, "how long an honest request waits beside costly ones", results)


if __name__ == "__main__":
    main()
