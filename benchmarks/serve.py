"""How does a server hold up under load: latency, throughput, refusals, and how far from the floor?

python -m benchmarks.serve [VIDEO] [--engines DIR | --url HOST:PORT [--server-pid PID]] [--out JSON]
    [--ways grpc,client] [--cached-shares 1,0.5,0] [--clients 1,4,8] [--shares 0.5,1,2]

Closed and open loops, as docs/benchmarks.md has them, for each way to ask and each share of
requests about a video that the server has seen. `grpc` calls the public model with Triton's own
client, `client` is groundserve's. Without `--engines` and `--url` the shipped checkpoint is served
with a cache of features. The floor counts the load generator's processor time too.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import struct
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from benchmarks._command import existing_file, list_of, positive, run
from benchmarks._machine import measure_peaks
from benchmarks._report import describe_video, spread, write_report
from benchmarks._server import FIRST_REQUESTS, MODEL, ensemble_inputs, server_of
from benchmarks._usage import tree_cpu_seconds
from engine_build import build
from groundserve.client import AsyncClient
from groundserve.errors import GroundserveError
from groundserve.limits import Limits
from groundserve.options import ScoreOptions, parse_options
from groundserve.runtime.cpus import available_cpus
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from scripts import fetch_clips

WAYS = ("grpc", "client")
OPTIONS = '{"num_frames": 10, "sampling": "infer", "sample_fps": 5}'
Send = Callable[[bytes, str], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What became of one request; times on the clock of `time.perf_counter`."""

    due: float
    """When it was meant to be sent."""
    done: float
    """When its answer or its refusal was there."""
    code: str
    """"ok", or the error's."""


@asynccontextmanager
async def connected(way: str, address: str, options: ScoreOptions, timeout: float) -> Any:
    """Open a connection; give what asks."""
    if way == "client":
        async with AsyncClient(f"grpc://{address}", timeout_seconds=timeout) as client:
            yield lambda video, query: client.score(video, query, options)
    else:
        async with tritonclient.grpc.aio.InferenceServerClient(address) as server:
            yield lambda video, query: server.infer(
                MODEL, ensemble_inputs(video, query, options), client_timeout=timeout
            )


async def put_load(
    send: Send,
    video: bytes,
    pids: Sequence[int],
    numbers: Iterator[int],
    *,
    cached_share: float,
    warm_up_seconds: float,
    seconds: float,
    num_clients: int = 0,
    rate: float = 0.0,
) -> dict[str, Any]:
    """Put a load on a server: so many clients, or so many requests a second.

    Counted is the time of the processes that have these roots; no question comes twice.
    """
    rng, samples = random.Random(0), list[Sample]()
    began = time.perf_counter()
    start = began + warm_up_seconds
    end = start + seconds

    async def ask(due: float) -> None:
        asked = video if rng.random() < cached_share else unseen(video)
        try:
            await send(asked, f"When is number {next(numbers)} shown?")
            code = "ok"
        except InferenceServerException as error:
            code = error.status() or "no status"
        except GroundserveError as error:
            code = type(error).__name__
        samples.append(Sample(due=due, done=time.perf_counter(), code=code))

    async def client() -> None:
        while (now := time.perf_counter()) < end:
            await ask(now)

    async def read_processor_time() -> float:
        await asyncio.sleep(start - time.perf_counter())
        before = sum(map(tree_cpu_seconds, pids))
        await asyncio.sleep(end - time.perf_counter())
        return sum(map(tree_cpu_seconds, pids)) - before

    async with asyncio.TaskGroup() as tasks:
        cpu_seconds = tasks.create_task(read_processor_time())
        for _ in range(num_clients):
            tasks.create_task(client())
        due = began
        while rate and (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(due - time.perf_counter())
            tasks.create_task(ask(due))
    return summarise(samples, start=start, end=end, cpu_seconds=cpu_seconds.result())


def summarise(
    samples: Sequence[Sample], *, start: float, end: float, cpu_seconds: float
) -> dict[str, Any]:
    """Return a load's figures.

    Answers a second are those that came between `start` and `end`; all else is of the requests that
    were due in that time, whenever they ended.
    """
    seconds = end - start
    due = [one for one in samples if start <= one.due < end]
    answered = [one.done - one.due for one in due if one.code == "ok"]
    refused = [one.done - one.due for one in due if one.code != "ok"]
    num_done = sum(one.code == "ok" and start <= one.done < end for one in samples)
    floor = available_cpus() * num_done / cpu_seconds
    return {
        "offered_per_second": len(due) / seconds,
        "answers_per_second": num_done / seconds,
        "outcomes": dict(Counter(one.code for one in due)),
        "num_not_answered": len(refused),
        "seconds": spread(answered) if answered else None,
        "refused_seconds": spread(refused) if refused else None,
        "cpu": {
            "seconds_per_answer": cpu_seconds / num_done if num_done else None,
            "floor_answers_per_second": floor,
        },
    }


def unseen(video: bytes) -> bytes:
    """Return an MP4 under a hash that it never had: a `free` box ends it, which readers skip."""
    mark = uuid.uuid4().bytes
    return video + struct.pack(">I4s", 8 + len(mark), b"free") + mark


async def measure(
    args: argparse.Namespace, video: bytes, address: str, pids: Sequence[int]
) -> dict[str, Any]:
    """Measure every way and share."""
    found: dict[str, Any] = {}
    numbers = itertools.count()
    options = parse_options(args.options, limits=Limits())
    for way, share in itertools.product(args.ways, args.cached_shares):
        async with connected(way, address, options, args.timeout_seconds) as send:
            for _ in range(FIRST_REQUESTS):
                await send(video, f"When is number {next(numbers)} shown?")

            put = partial(
                put_load,
                send,
                video,
                pids,
                numbers,
                cached_share=share,
                warm_up_seconds=args.warm_up_seconds,
                seconds=args.seconds,
            )
            closed = {f"{n} clients": await put(num_clients=n) for n in args.clients}
            capacity = max(one["answers_per_second"] for one in closed.values())
            opened = {
                f"{times:g} of capacity": await put(rate=times * capacity)
                for times in args.shares
                if capacity
            }
        found[f"{way}, {share:.0%} cached"] = {
            "closed_loop": closed,
            "capacity_per_second": capacity,
            "open_loop": opened,
        }
    return found


@contextmanager
def served(args: argparse.Namespace) -> Iterator[tuple[str, list[int]]]:
    """Give the server's address and the roots of all processes that work."""
    own = os.getpid()
    if args.url is not None:
        yield args.url.removeprefix("grpc://"), [own, *args.server_pid]
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = args.engines or folder / "engines"
        if args.engines is None:
            build(SHIPPED_CHECKPOINT, engines, profile="cpu")
        with server_of(engines, folder, cache_dir=folder / "cache") as server:
            yield server.grpc_address, [own]  # the server is a child


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("video", type=existing_file, nargs="?", metavar="VIDEO", help="an MP4; a clip by default")
    add("--options", default=OPTIONS, help="JSON of ScoreOptions (default: %(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--engines", type=Path, help="serve this engine directory")
    where.add_argument("--url", help="gRPC address of a running server")
    add("--server-pid", type=int, nargs=1, default=[], help="for the processor time of that server")
    add("--ways", type=list_of(str), default=list(WAYS), help="of grpc,client")
    add("--cached-shares", type=list_of(float), default=[1.0, 0.5, 0.0], help="of the requests")
    add("--clients", type=list_of(positive), default=[1, 4, 8], help="of the closed loops")
    add("--shares", type=list_of(float), default=[0.5, 1.0, 2.0], help="of the closed loops' best")
    add("--seconds", type=float, default=10.0, help="of each load")
    add("--warm-up-seconds", type=float, default=1.0, help="of each load")
    add("--timeout-seconds", type=float, default=10.0, help="of a request")
    add("--out", type=Path)
    args = parser.parse_args()
    if unknown := set(args.ways) - set(WAYS):
        parser.error(f"--ways must be of grpc,client, got {', '.join(sorted(unknown))}")
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    if args.video is None:
        fetch_clips.main(clips)
    path = args.video or clips / "bikes.mp4"
    peaks = measure_peaks()
    with served(args) as (address, pids):
        loads = asyncio.run(measure(args, path.read_bytes(), address, pids))
    write_report(
        args.out,
        "latency, throughput and refusals of a server under load",
        {"options": args.options, "seconds": args.seconds, "loads": loads},
        inputs=[describe_video(path)],
        warm_up=f"{FIRST_REQUESTS} requests, then {args.warm_up_seconds:g} s of each load",
        repeats=1,
        peaks=peaks,
    )


if __name__ == "__main__":
    run(main)
