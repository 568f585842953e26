"""How fast, how right and how near the device's limits? One command for one machine with a GPU.

python -m benchmarks.gpu_check --out JSON [--minutes 10] [--media DIR] [--engines DIR] [--small]

Needs PyTorch and transformers. Sizes are those of the released model, weights and frames are noise,
except for the parity of `digits`. A part that fails in any way, finds nothing to run on, takes
three times what it may take or no longer fits into the time is recorded as such.
`--small --device cpu` tries the program.
"""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import Part, Report
from benchmarks.gpu.size import FULL, SMALL, Size
from benchmarks.gpu.worker import Worker

COLD_MS = 1200.0
REPEAT_MS = 450.0
REFERENCE_RATIO = 1.3
# Small sizes take their seconds from imports, not from arithmetic.
SMALL_SCALE = 0.05
# A part is stopped after so many times what it may take, and what a new process takes to start.
LIMIT_FACTOR = 3.0
START_SECONDS = 120.0


def main(arguments: list[str] | None = None) -> None:
    """Run every part."""
    args = parse(arguments)
    size = SMALL if args.small else FULL
    report = Report(args.out, device=args.device, size=size.name, budget_seconds=60 * args.minutes)
    # Ends it here where the file cannot be written; later that costs the file only.
    report.save()
    worker = Worker(size=size, device=args.device)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for part in parts(size, args):
            limit = LIMIT_FACTOR * part.seconds + START_SECONDS
            report.run(part, partial(worker.run, limit_seconds=limit))
    except KeyboardInterrupt:
        print("interrupted; what was measured before stays")
    finally:
        worker.close()
        signal.signal(signal.SIGTERM, before)
    report.targets = judge(report, size)
    try:
        report.save()
    finally:
        print_table(report)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--minutes", type=float, default=10.0, help="all parts together (10)")
    parser.add_argument("--media", type=Path, help="folder of videos, one of each codec")
    parser.add_argument("--engines", type=Path, help="engine directory to check")
    parser.add_argument("--checkpoint", type=Path, help="what --engines was built from (digits)")
    parser.add_argument("--small", action="store_true", help="tiny dimensions")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (cuda)")
    args = parser.parse_args(arguments)
    if args.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            parser.error(f"--device {args.device}: PyTorch sees no GPU; --small --device cpu runs")
        if args.device == "cuda":
            # `torch.cuda.set_device` takes no device without a number.
            args.device = "cuda:0"
    return args


def parts(size: Size, args: argparse.Namespace) -> list[Part]:
    """Return what is measured, the most important first."""
    everything = [
        Part("ceilings", 15, "speed:measure_ceilings"),
        Part("main request", 60, "speed:measure_request", (size.main_frames,)),
        Part("reference", 90, "speed:measure_reference"),
        Part("digits parity", 40, "parity:check_digits"),
        Part("full-size parity", 40, "parity:check_full_size"),
        Part("kernel orders", 60, "speed:measure_orders"),
        Part("other lengths", 60, "speed:measure_sweep"),
        Part("compilation", 120, "speed:measure_compilation"),
        Part("engines", 60, "engines:check_engines", (args.engines, args.checkpoint)),
        Part("decode", 60, "media:measure_media", (args.media,)),
    ]
    scale = SMALL_SCALE if args.small else 1.0
    return [replace(part, seconds=scale * part.seconds) for part in everything]


def judge(report: Report, size: Size) -> list[dict[str, Any]]:
    """Hold the targets against what was measured; None where it was not, or not at full size."""
    results = {part["part"]: part["results"] for part in report.parts if part["status"] == "ok"}
    request, ratio = results.get("main request"), results.get("reference", {}).get("ratio_cold")
    cold, repeated = (
        request and request[stage]["median_ms"] for stage in ("cold", "ground_is_repeat")
    )
    rows = (
        ("new video: milliseconds, at most", COLD_MS, cold, -1),
        ("repeated video: milliseconds, at most", REPEAT_MS, repeated, -1),
        ("times as fast as the re-enacted reference, at least", REFERENCE_RATIO, ratio, 1),
    )
    return [
        {
            "target": target,
            "limit": limit,
            "measured": measured,
            "met": None if measured is None or size is not FULL else sign * (measured - limit) >= 0,
        }
        for target, limit, measured, sign in rows
    ]


def print_table(report: Report) -> None:
    """Print how each part ended and the targets."""
    print()
    for part in report.parts:
        why = part.get("why") or part.get("error") or ""
        print(f"{part['part']:<24}{part['status']:<9}{part['seconds']:6.1f} s  {why[:100]}")
    for target in report.targets:
        words = {True: "met", False: "MISSED", None: "not judged"}[target["met"]]
        value = "-" if target["measured"] is None else f"{target['measured']:.2f}"
        print(f"{target['target']}: {target['limit']:g}, measured {value}: {words}")


if __name__ == "__main__":
    main()
