"""How does a server hold up under load: latency, throughput, refusals, and how far from the floor?

    python -m benchmarks.serve [VIDEO ...] [--engines DIR | --url URL [--url URL]] [--out JSON]

For each way to ask (Triton's gRPC and HTTP clients with the public model; groundserve's client) and
each share of requests about a cached video (all others are about one that nobody has seen):

- closed loop: so many clients, each waits for its answer before it asks again. Windows follow each
  other until the rates and mean latencies of three in a row agree within 10%, as `perf_analyzer`
  does it, or there were as many as may be;
- open loop: requests arrive as a Poisson process at shares of the best rate of the closed loops,
  whatever the server does. A latency counts from the arrival.

The load comes from one process of its own, whose processor time is in every sum. The floor of a
load is what the cores could answer at its processor time an answer, generator included.

Without `--engines` or `--url` the shipped checkpoint `digits` is served, with profile `cpu` and a
feature cache. `--perf-analyzer PROGRAM` also runs Triton's own load generator, with as many clients
and the same requests, where all are about a cached video; `--perf-analyzer-input FILE` leaves the
requests of the first load for it, and says how to run it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _perf_analyzer
from benchmarks._command import run as run_command
from benchmarks._generator import Load, run_load
from benchmarks._loops import Windows
from benchmarks._machine import measure_peaks
from benchmarks._report import describe_video, write_report
from benchmarks._senders import SCHEMES
from benchmarks._serve_arguments import parse_arguments
from benchmarks._server_view import peak_memory
from benchmarks._workload import Workload
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.limits import Limits
from groundserve.options import parse_options
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from groundserve.serving import TritonServer
from tests.media_assets import H264, asset_maker

SETTLE_SECONDS = 1.0
"""After each load: what its client gave up is not always ended at once."""
NUMBERS_A_LOAD = 10**6
Run = Callable[[Load], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server."""

    addresses: dict[str, str]
    """HOST:PORT by scheme."""
    pid: int | None
    """Root of its processes, where they are known."""


def measure(
    run: Run,
    loads: Iterator[Load],
    *,
    clients: list[int],
    shares: list[float],
    rates: list[float],
    analyze: Run | None = None,
) -> dict[str, Any]:
    """Measure one way to ask and one mix.

    Args:
        run: Puts a load on the server.
        loads: All alike but for seed and numbers; neither closed nor open loops.
        clients: Of the closed loops, in turn.
        shares: Of the best rate of the closed loops, for the open ones.
        rates: Requests a second of further open loops.
        analyze: Has `perf_analyzer` put a closed loop on the server.
    """
    closed, analyzed = {}, {}
    for num_clients in clients:
        load = replace(next(loads), num_clients=num_clients)
        closed[f"{num_clients} clients"] = run(load)
        if analyze:
            analyzed[f"{num_clients} clients"] = analyze(load)
    capacity = max((found["answers_per_second"] for found in closed.values()), default=0.0)
    at_rates = {f"{share:g} of capacity": share * capacity for share in shares if capacity}
    at_rates |= {f"{rate:g} per second": rate for rate in rates}
    opened = {name: run(replace(next(loads), rate=rate)) for name, rate in at_rates.items()}
    found = {"closed_loop": closed, "capacity_per_second": capacity, "open_loop": opened}
    return found | ({"perf_analyzer": analyzed} if analyze else {})


def numbered(load: Load) -> Iterator[Load]:
    """Yield the load again and again, each with a seed and questions of its own."""
    while True:
        yield load
        load = replace(load, first_number=load.first_number + NUMBERS_A_LOAD, seed=load.seed + 1)


@contextmanager
def target(args: argparse.Namespace, folder: Path) -> Iterator[Target]:
    """Give the server at the URLs, or one that is started and ends with the block."""
    if args.url:
        yield Target(addresses=dict(args.url), pid=args.server_pid)
        return
    engines = args.engines or folder / "engines"
    if args.engines is None:
        from engine_build import build  # not above: the generator's process imports this module

        build(SHIPPED_CHECKPOINT, engines, profile="cpu")
    roots = {path.resolve().parent for path in args.videos} if args.by_uri else set()
    log_file = folder / "tritonserver.log"
    with TritonServer(
        engines,
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        cache_dir=folder / "cache",
        allowed_roots=sorted(roots),
        log_file=log_file,
    ) as server:
        addresses = {"grpc": server.grpc_address, "http": server.http_address}
        try:
            yield Target(addresses=addresses, pid=server.pid)
        except GroundserveError as error:
            if server.is_running():
                raise
            kept = keep_log(log_file, args.out)
            raise UnavailableError(
                f"{error}; tritonserver ended with status {server.exit_status}, its log is {kept}"
            ) from error


def keep_log(log_file: Path, out: Path | None) -> Path:
    """Copy the log out of a folder that is removed: beside the report, or to a folder that stays.

    Returns:
        The copy.
    """
    folder = out.resolve().parent if out is not None else Path(tempfile.mkdtemp())
    kept = folder / f"{out.stem if out is not None else 'serve'}.{log_file.name}"
    shutil.copy(log_file, kept)
    return kept


@contextmanager
def generator() -> Iterator[Run]:
    """Give what runs loads in a process of its own, one after another."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(load: Load) -> dict[str, Any]:
            found = pool.submit(run_load, load).result()
            if load.server_pid is not None:
                found["peak_memory_so_far"] = peak_memory(load.server_pid)
            time.sleep(SETTLE_SECONDS)
            return found

        yield run


def main() -> None:
    """Measure every way and mix."""
    args = parse_arguments(__doc__.partition("\n")[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args.videos = args.videos or [asset_maker(folder)(H264)]
        workload = Workload(
            videos=tuple(
                path.resolve().as_uri() if args.by_uri else path.read_bytes()
                for path in args.videos
            ),
            options=parse_options(args.options, limits=Limits()),
        )
        for share in args.cached_shares:
            workload.check(share)
        inputs = [describe_video(path) for path in args.videos]
        peaks = measure_peaks()
        with target(args, folder) as server, generator() as run:
            results = {
                "options": json.loads(args.options),
                "windows": asdict(windows_of(args)),
                "slo_seconds": args.slo_seconds,
                "timeout_seconds": args.timeout_seconds,
                "seed": args.seed,
            } | measure_all(args, workload, server, run)
    write_report(
        args.out,
        "latency, throughput and refusals of a server under load",
        results,
        inputs=inputs,
        warm_up=f"one request about each video, then {args.warm_up_seconds:g} s of each load",
        repeats=args.windows,
        errors=failures(results["loads"]),
        peaks=peaks,
    )


def failures(loads: dict[str, Any]) -> list[str]:
    """Return which requests were not answered, by load and kind of error."""
    return [
        f"{way}, {load}: {count} x {code}"
        for way, found in loads.items()
        for loop in ("closed_loop", "open_loop")
        for load, one in found[loop].items()
        for code, count in one["outcomes"].items()
        if code != "ok"
    ]


def measure_all(
    args: argparse.Namespace, workload: Workload, server: Target, run: Run
) -> dict[str, Any]:
    """Measure every way to ask with every mix."""
    template = Load(
        way="grpc",
        address="",
        server_pid=server.pid,
        workload=workload,
        cached_share=1.0,
        windows=windows_of(args),
        timeout_seconds=args.timeout_seconds,
        slo_seconds=args.slo_seconds,
        seed=args.seed,
        first_number=0,
    )
    loads = numbered(template)
    found: dict[str, Any] = {}
    for way in args.ways:
        for share in args.cached_shares:
            address = server.addresses[SCHEMES[way]]
            fit = partial(replace, way=way, address=address, cached_share=share)
            if args.perf_analyzer_input and not found:
                leave_input(args.perf_analyzer_input, fit(next(loads)), args.perf_analyzer_entries)
            is_for_both = args.perf_analyzer and share == 1 and way != "client"
            found[f"{way}, {share:.0%} cached"] = measure(
                run,
                map(fit, loads),
                clients=args.clients,
                shares=args.shares,
                rates=args.rates,
                analyze=partial(_perf_analyzer.run, args.perf_analyzer) if is_for_both else None,
            )
    return {"loads": found}


def leave_input(path: Path, load: Load, num_entries: int) -> None:
    """Write a load's requests for `perf_analyzer`, and say how it is run with them."""
    _perf_analyzer.write_input(path, load, num_entries)
    for one in (replace(load, num_clients=1), replace(load, rate=1.0)):
        print(shlex.join(_perf_analyzer.command("perf_analyzer", one, path)), file=sys.stderr)


def windows_of(args: argparse.Namespace) -> Windows:
    """Return how loads are measured."""
    return Windows(
        seconds=args.window_seconds,
        warm_up_seconds=args.warm_up_seconds,
        most=args.windows,
        stability=args.stability,
    )


if __name__ == "__main__":
    run_command(main)
