"""Does the server survive hours of mixed requests, does its memory stay, are its answers the same?

python -m benchmarks.soak [--seconds 25000] [--clients 8] [--bad-share 0.1] [--out JSON]

Records the answers to a few good requests first, one at a time; then clients send them at random,
mixed with bad ones (mutated videos, wrong options, too many questions). A good request must give
the same bits, or be refused as overload; a bad one must give an answer or a typed refusal. Resident
memory of every process is sampled; growth counts from the first quarter on. Exits with 1 where
something failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._load import Outcome, Request, good_requests, same_answer, served
from benchmarks._processes import name_of
from benchmarks._report import spread, write_report
from groundserve import Client, ScoreOptions, ScoreResult
from tests.media_assets.mutation import mutate

HANG_SECONDS = 60.0
SAMPLE_SECONDS = 2.0
NUM_FRAMES = 16
GOOD_CODES = {"ok", "UnavailableError"}
BAD_CODES = {"ok", "InvalidRequestError", "MediaError", "UnavailableError"}


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.codes: Counter[str] = Counter()
        self.failures: list[str] = []

    def add(self, kind: str, outcome: Outcome, fault: str | None) -> None:
        """Count one answer; a fault is what must not happen."""
        self.codes[f"{kind}: {outcome.code}"] += 1
        if kind == "good":
            self.seconds.append(outcome.seconds)
        if fault:
            self.failures.append(fault)


def bad_request(good: Request, rng: random.Random) -> Request:
    """Make a good request bad in one of several ways."""
    way = rng.randrange(4)
    if way == 0:
        return Request(good.video, ("q",) * 33, good.options)
    if way == 1:
        return Request(good.video, good.queries, ScoreOptions(num_frames=10**9))
    if way == 2:
        return Request(b"", good.queries, good.options)
    return Request(mutate(good.video, rng.randrange(2**32)), good.queries, good.options)


def run_client(
    url: str,
    number: int,
    *,
    until: float,
    bad_share: float,
    answers: list[tuple[Request, ScoreResult]],
) -> Tally:
    """Send requests one after another until the time is over."""
    rng, tally = random.Random(number), Tally()
    with Client(url, timeout_seconds=HANG_SECONDS) as client:
        while time.monotonic() < until:
            request, expected = rng.choice(answers)
            if rng.random() < bad_share:
                outcome = Outcome.of(partial(bad_request(request, rng).send, client))
                tally.add("bad", outcome, None if outcome.code in BAD_CODES else outcome.code)
            else:
                outcome = Outcome.of(partial(request.send, client))
                tally.add("good", outcome, fault_of(outcome, expected))
    return tally


def fault_of(outcome: Outcome, expected: ScoreResult) -> str | None:
    """Say what is wrong with the outcome of a good request, None where nothing is."""
    if outcome.result is not None and not same_answer(outcome.result, expected):
        return "another answer than before"
    return None if outcome.code in GOOD_CODES else outcome.code


class MemorySampler(threading.Thread):
    """Samples the resident memory of a process and all below it until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self.samples: dict[str, list[tuple[float, float]]] = {}
        """By process: times in seconds and MiB."""

    def run(self) -> None:
        """Sample."""
        started = time.monotonic()
        while not self._stopped.wait(SAMPLE_SECONDS):
            for process in [self._root, *self._root.children(recursive=True)]:
                try:
                    key = f"{name_of(process)} ({process.pid})"
                    mib = process.memory_info().rss / 1024**2
                except psutil.NoSuchProcess:
                    continue
                self.samples.setdefault(key, []).append((time.monotonic() - started, mib))

    def stop(self) -> None:
        """Take no more samples."""
        self._stopped.set()
        self.join()


def memory_report(samples: list[tuple[float, float]], warm_up_seconds: float) -> dict[str, float]:
    """Compare the median of the last quarter with that of the second one."""
    times, mib = np.array(samples).T
    end = times[-1]
    after = mib[(times >= warm_up_seconds) & (times < 2 * warm_up_seconds)]
    last = mib[times >= end - warm_up_seconds]
    return {
        "first_mib": mib[0],
        "peak_mib": mib.max(),
        "after_warm_up_mib": float(np.median(after)) if len(after) else mib[0],
        "last_mib": float(np.median(last)),
        "growth_mib": float(np.median(last) - np.median(after)) if len(after) else 0.0,
    }


def soak(url: str, pid: int, requests: list[Request], args: argparse.Namespace) -> dict[str, Any]:
    """Run the clients and judge what they and the sampler saw."""
    with Client(url) as client:
        answers = [(request, request.send(client)) for request in requests]
    before = {child.pid for child in psutil.Process(pid).children()}
    sampler = MemorySampler(pid)
    sampler.start()
    until = time.monotonic() + args.seconds
    with ThreadPoolExecutor(args.clients) as pool:
        run = partial(run_client, url, until=until, bad_share=args.bad_share, answers=answers)
        tallies = list(pool.map(run, range(args.clients)))
    sampler.stop()
    after = {child.pid for child in psutil.Process(pid).children()}
    codes = sum((tally.codes for tally in tallies), Counter())
    seconds = [value for tally in tallies for value in tally.seconds]
    memory = {
        key: memory_report(samples, args.seconds / 4)
        for key, samples in sorted(sampler.samples.items())
    }
    growth = [one["growth_mib"] for one in memory.values()]
    return {
        "requests": codes.total(),
        "requests_per_second": codes.total() / args.seconds,
        "codes": dict(codes),
        "good_seconds": spread(seconds),
        "failures": dict(Counter(f for tally in tallies for f in tally.failures)),
        "model_processes_replaced": len(before - after),
        "memory_growth": {
            "num_processes": len(memory),
            "sum_mib": sum(growth),
            "largest_mib": max(growth),
        },
        "memory": memory,
    }


def main() -> None:
    """Serve, soak, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=25_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--bad-share", type=float, default=0.1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (server, url):
        assert server.pid is not None
        results = soak(url, server.pid, good_requests(Path(name), NUM_FRAMES), args)
    write_report(args.out, "mixed load: answers, failures and memory over time", results)
    sys.exit(1 if results["failures"] or results["model_processes_replaced"] else 0)


if __name__ == "__main__":
    main()
