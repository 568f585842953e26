"""How fast, how right and how near the device's limits? One command for one machine with a GPU.

python -m benchmarks.gpu_check --out JSON [--minutes 10] [--media DIR] [--engines DIR] [--small]

Needs PyTorch and transformers. Sizes are those of the released model, weights and frames are noise
(no weights are downloaded), except for the parity of `digits`, which ships with its weights. The
parts stand by themselves: one that fails, finds nothing to run on, or no longer fits into the time
is recorded as such, and the file is written after each. `--small --device cpu` tries the program.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.ceilings import measure_ceilings
from benchmarks.gpu.engines import check_engines
from benchmarks.gpu.fp8 import measure_fp8
from benchmarks.gpu.media import measure_media
from benchmarks.gpu.models import Bench
from benchmarks.gpu.parity import check_digits, check_full_size
from benchmarks.gpu.report import Part, Report, header
from benchmarks.gpu.size import FULL, SMALL, Size
from benchmarks.gpu.speed import (
    measure_orders,
    measure_reference,
    measure_request,
    measure_sweep,
    measure_upload,
)
from benchmarks.gpu.variants import (
    measure_attention,
    measure_batches,
    measure_compilation,
    measure_graphs,
    measure_tuned_reference,
)

COLD_MS = 1200.0
REPEAT_MS = 450.0
REFERENCE_RATIO = 1.3
# Small sizes take their seconds from imports, not from arithmetic.
SMALL_SCALE = 0.05


def main(arguments: list[str] | None = None) -> None:
    """Run every part."""
    args = parse(arguments)
    if args.device != "cpu":
        torch.cuda.set_device(args.device)
    size = SMALL if args.small else FULL
    bench = Bench(size=size, device=args.device)
    report = Report(
        args.out,
        header=header(
            "speed and parity of the PyTorch stages on a GPU", device=args.device, size=size.name
        ),
        budget_seconds=60 * args.minutes,
    )
    scale = SMALL_SCALE if args.small else 1.0
    for part in parts(bench, args):
        report.run(part, scale=scale)
    report.targets = judge(report, size)
    report.save()
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
    if torch.device(args.device).type == "cuda":
        if not torch.cuda.is_available():
            parser.error(f"--device {args.device}: PyTorch sees no GPU; --small --device cpu runs")
        if torch.device(args.device).index is None:
            # `torch.cuda.set_device` takes no device without a number.
            args.device = f"cuda:{torch.cuda.current_device()}"
    return args


def parts(bench: Bench, args: argparse.Namespace) -> Iterator[Part]:
    """Yield what is measured, the most important first."""
    main_frames = bench.size.main_frames
    yield Part(name="ceilings", seconds=15, call=partial(measure_ceilings, bench))
    yield Part(name="main request", seconds=60, call=partial(measure_request, bench, main_frames))
    yield Part(name="reference", seconds=90, call=partial(measure_reference, bench))
    yield Part(name="digits parity", seconds=40, call=partial(check_digits, bench))
    yield Part(name="full-size parity", seconds=40, call=partial(check_full_size, bench))
    yield Part(name="kernel orders", seconds=60, call=partial(measure_orders, bench))
    yield Part(name="other lengths", seconds=60, call=partial(measure_sweep, bench))
    yield Part(name="upload", seconds=15, call=partial(measure_upload, bench))
    yield Part(name="attention kernels", seconds=40, call=partial(measure_attention, bench))
    yield Part(name="compilation", seconds=120, call=partial(measure_compilation, bench))
    yield Part(name="reference, tuned", seconds=90, call=partial(measure_tuned_reference, bench))
    yield Part(name="fp8", seconds=90, call=partial(measure_fp8, bench))
    yield Part(name="encode batches", seconds=40, call=partial(measure_batches, bench))
    yield Part(
        name="engines",
        seconds=60,
        call=partial(check_engines, bench, args.engines, args.checkpoint),
    )
    yield Part(name="decode", seconds=60, call=partial(measure_media, bench, args.media))
    yield Part(name="CUDA graphs", seconds=30, call=partial(measure_graphs, bench))


def judge(report: Report, size: Size) -> list[dict[str, Any]]:
    """Hold the targets against what was measured; None where it was not, or not at full size.

    `measured` is what is served by default, `best` is with the best constants that were tried.
    """
    results = {part["part"]: part["results"] for part in report.parts if part["status"] == "ok"}
    requests = {
        "as served": results.get("main request"),
        **{f"{name} first": row for name, row in results.get("kernel orders", {}).items()},
        "compiled": results.get("compilation", {}).get("main request"),
    }
    rows = [
        _judge_time("new video: milliseconds, at most", COLD_MS, "cold", requests),
        _judge_time(
            "repeated video: milliseconds, at most", REPEAT_MS, "ground_is_repeat", requests
        ),
    ]
    ratio = results.get("reference", {}).get("ratio_cold")
    tuned = results.get("reference, tuned", {}).get("ratio_cold")
    rows.append(
        {
            "target": "times as fast as the re-enacted reference, at least",
            "limit": REFERENCE_RATIO,
            "measured": ratio,
            "met": None if ratio is None else ratio >= REFERENCE_RATIO,
            "best": None if tuned is None else ("compiled", tuned),
        }
    )
    if size is not FULL:
        for row in rows:
            row["met"] = None
    return rows


def _judge_time(
    name: str, limit: float, stage: str, requests: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    times = {
        how: float(row[stage]["median_ms"]) for how, row in requests.items() if row is not None
    }
    measured = times.get("as served")
    return {
        "target": name,
        "limit": limit,
        "measured": measured,
        "met": None if measured is None else measured <= limit,
        "best": min(times.items(), key=lambda one: one[1]) if times else None,
    }


def print_table(report: Report) -> None:
    """Print how each part ended and the targets."""
    print()
    for part in report.parts:
        why = part.get("why") or part.get("error") or ""
        print(f"{part['part']:<20}{part['status']:<9}{part['seconds']:6.1f} s  {why[:100]}")
    for row in report.parts:
        if row["part"] == "main request" and row["status"] == "ok":
            for stage in ("encode", "ground_is_repeat", "cold"):
                timed = row["results"][stage]
                share = timed["fraction_of_ceiling"]
                print(
                    f"{stage:<20}{timed['median_ms']:9.1f} ms {timed['tflops']:7.1f} TFLOP/s"
                    + ("" if share is None else f" {share:6.1%} of the ceiling")
                )
    for target in report.targets:
        words = {True: "met", False: "MISSED", None: "not judged"}[target["met"]]
        value = "-" if target["measured"] is None else f"{target['measured']:.2f}"
        best = target.get("best")
        also = f" ({best[0]}: {best[1]:.2f})" if best else ""
        print(f"{target['target']}: {target['limit']:g}, measured {value}: {words}{also}")


if __name__ == "__main__":
    main()
