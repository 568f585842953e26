"""How long does a request take on a running server, with how many clients at once?

    python -m benchmarks.clients --server grpc://127.0.0.1:8001 VIDEO [VIDEO ...] [--clients 1,4,16]
        [--requests 50] [--num-frames 512] [--by-uri] [--out JSON]

Each client waits for its answer before it asks again; videos are taken in turn, and no question
comes twice. With a feature cache, the first round over the videos is cold and the others are hits:
start the server without one to measure cold requests.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._load import Outcome
from benchmarks._report import spread, write_report
from groundserve import Client, ScoreOptions
from groundserve.options import DEFAULT_NUM_FRAMES


def measure(
    client: Client,
    videos: Sequence[dict[str, Any]],
    options: ScoreOptions,
    *,
    num_clients: int,
    num_requests: int,
) -> dict[str, Any]:
    """Send the requests with so many clients and say how they went.

    Args:
        client: Of the server.
        videos: For each what `Client.score` is given: `video` or `video_uri`.
        options: Of every request.
        num_clients: Requests that are open at once.
        num_requests: All together.
    """
    numbers = itertools.count()

    def ask(_: int) -> Outcome:
        number = next(numbers)
        query = f"When is number {number} shown?"
        video = videos[number % len(videos)]
        return Outcome.of(partial(client.score, queries=[query], options=options, **video))

    started = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as pool:
        outcomes = list(pool.map(ask, range(num_requests)))
    seconds = time.perf_counter() - started
    answered = [outcome for outcome in outcomes if outcome.result is not None]
    timings = [outcome.result.timing_ms for outcome in answered if outcome.result]
    stages = sorted({stage for timing in timings for stage in timing})
    return {
        "answers_per_second": len(answered) / seconds,
        "outcomes": dict(Counter(outcome.code for outcome in outcomes)),
        "seconds": spread([outcome.seconds for outcome in answered]) if answered else None,
        "median_ms_by_stage": {
            stage: float(np.median([timing.get(stage, 0.0) for timing in timings]))
            for stage in stages
        },
    }


def main() -> None:
    """Measure each number of clients in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--server", required=True, help="grpc://HOST:PORT")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients, in turn")
    parser.add_argument("--requests", type=int, default=50, help="for each number of clients")
    parser.add_argument("--num-frames", type=int, default=DEFAULT_NUM_FRAMES)
    parser.add_argument("--by-uri", action="store_true", help="the server reads the files itself")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    videos: list[dict[str, Any]] = [
        {"video_uri": path.resolve().as_uri()} if args.by_uri else {"video": path.read_bytes()}
        for path in args.videos
    ]
    options = ScoreOptions(num_frames=args.num_frames)
    with Client(args.server) as client:
        client.score(queries=["warm-up"], options=options, **videos[0])
        results = {
            f"{num_clients} clients": measure(
                client, videos, options, num_clients=num_clients, num_requests=args.requests
            )
            for num_clients in map(int, args.clients.split(","))
        }
    write_report(args.out, "latency on a running server by number of clients", results)


if __name__ == "__main__":
    main()
