"""Does the service come back when processes stand still? Stop each kind under load.

python -m benchmarks.stalls [--times 3] [--seed 0] [--engines DIR] [--clip MP4] [--out JSON]

Runs `groundserve serve`, scores a clip from several clients without a pause and sends SIGSTOP to a
stub of each Python model, a media worker and the server, each some times in a random order. When
the service counts as back is said in `benchmarks.kills`. Exits with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks._engines import prepared
from benchmarks._report import spread, write_report
from benchmarks.kills import MAX_BACK_SECONDS, Load, Service, model_of, strike, wait_until_settled

MODELS = ("video_features", "video_decode", "vision_encoder", "grounding", "frame_selector")
TARGETS = (*MODELS, "worker", "server")


def candidates(service: Service, target: str) -> list[psutil.Process]:
    """Return the processes that a target's name stands for, in order of their ids."""
    if target in MODELS:
        found = [stub for stub in service.processes("stub") if model_of(stub) == target]
    else:
        found = service.processes(target)
    return sorted(found, key=lambda process: process.pid)


def measure(engines: Path, clip: Path, times: int, seed: int, folder: Path) -> dict[str, object]:
    """Run the service and the clients, and stop its processes one after another."""
    rng = random.Random(seed)
    targets = list(TARGETS) * times
    rng.shuffle(targets)
    service = Service(engines, folder)
    load = Load(service.address, clip.read_bytes())
    threads = load.start()
    stops = []
    try:
        wait_until_settled(load, time.monotonic())
        for target in targets:
            time.sleep(rng.uniform(0.0, 1.0))
            victim = rng.choice(candidates(service, target))
            num_before = len(service.events())
            result = strike(victim, signal.SIGSTOP, load)
            events = [str(event["event"]) for event in service.events()[num_before:]]
            stops.append({"target": target, **result, "events": events})
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
        stop_seconds = service.stop()
    return {
        "stops": stops,
        "targets": {
            target: summary([s for s in stops if s["target"] == target]) for target in TARGETS
        },
        "untyped": sum(str(call.error).startswith("untyped") for call in load.calls),
        "stop_seconds": stop_seconds,
        "exit_status": service.program.returncode,
        "orphans": service.orphans(),
        "shared_memory_files": service.shared_memory_files(),
    }


def summary(stops: list[dict[str, object]]) -> dict[str, object]:
    """Return what a target's stops have in common."""
    back = [float(str(stop["back_seconds"])) for stop in stops]
    events, errors = Counter[str](), Counter[str]()
    for stop in stops:
        assert isinstance(stop["events"], list)
        assert isinstance(stop["errors"], Counter)
        events.update(stop["events"])
        errors.update({str(error)[:80]: number for error, number in stop["errors"].items()})
    return {
        "back_seconds": {**spread(back), "max": max(back)},
        "longest_failed_seconds": max(float(str(s["longest_failed_seconds"])) for s in stops),
        "events": events,
        "errors": errors,
    }


def broken_promises(results: dict[str, object]) -> list[str]:
    """Return what the service did not keep."""
    stops = results["stops"]
    assert isinstance(stops, list)
    promises = {
        "every stop is noticed": all(
            any(event.endswith("_stalled") for event in stop["events"]) for stop in stops
        ),
        f"back within {MAX_BACK_SECONDS:.0f} s": all(
            stop["back_seconds"] < MAX_BACK_SECONDS for stop in stops
        ),
        "stops with status 0": results["exit_status"] == 0,
        "every error is typed": results["untyped"] == 0,
        "no orphan process": not results["orphans"],
        "no file in /dev/shm": not results["shared_memory_files"],
    }
    return [promise for promise, is_kept in promises.items() if not is_kept]


def main() -> None:
    """Build engines where none are given, and stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    with prepared(parser, clip="carphone_pristine.mp4") as (args, folder):
        results = measure(args.engines, args.clip, args.times, args.seed, folder)
    write_report(args.out, "time until the service is back after a SIGSTOP", results)
    if broken := broken_promises(results):
        sys.exit(f"broken: {', '.join(broken)}")


if __name__ == "__main__":
    main()
