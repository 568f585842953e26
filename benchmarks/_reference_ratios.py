"""How pairs of answers become the ratios of `vs_reference`: plain numbers in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks._reference import Answer

Sample = dict[str, Any]
"""What one question took one side; see `sample`."""
Pair = dict[str, Any]
"""Both sides' answers to the same question, one right after the other, as a report has them:
"reference" and "ours" (samples), "logit_error" (None of other frames), "reference_was_first"."""
Floor = dict[str, float]
"""Least seconds by stage: "encode", "ground", or one of them."""


def sample(answer: Answer) -> Sample:
    """Return what an answer took: "usage", "timing_ms" by stage, "num_frames"."""
    return {
        "usage": asdict(answer.usage),
        "timing_ms": answer.timing_ms,
        "num_frames": len(answer.frame_indices),
    }


def ratio_row(
    pairs: Sequence[Pair], *, needed: Floor, ours: Floor, reference: Floor
) -> dict[str, Any]:
    """Return one entry of `ratios`: how many times faster ours is.

    The floors are of what the question needs, in float32, and of what either side computes for a
    new video.
    """
    errors = [pair["logit_error"] for pair in pairs if pair["logit_error"] is not None]
    return {
        **_spread(_faster(pairs, "wall_seconds")),
        "cpu_seconds": _spread(_faster(pairs, "cpu_seconds")),
        "floor_seconds": sum(needed.values()),
        "reference": _side([pair["reference"] for pair in pairs], needed, reference),
        "ours": _side([pair["ours"] for pair in pairs], needed, ours),
        "largest_logit_error": max(errors, default=None),
        "all_pairs": list(pairs),
    }


def ratio_at_equal_peaks(pairs: Sequence[Pair], *, times_faster: float) -> dict[str, Any]:
    """Estimate the ratio where the reference's own library multiplies as fast as the best one.

    Its networks' time is divided by `times_faster`, all else is as measured: what a reader with
    another processor may expect, since libraries differ by what they make of a processor.
    """
    ratios = []
    for pair in pairs:
        timing = pair["reference"]["timing_ms"]
        nets = sum(timing.get(name, 0.0) for name in ("encode", "ground")) / 1000
        wall = pair["reference"]["usage"]["wall_seconds"] - nets * (1 - 1 / times_faster)
        ratios.append(wall / pair["ours"]["usage"]["wall_seconds"])
    return _spread(ratios)


def _faster(pairs: Sequence[Pair], clock: str) -> list[float]:
    return [pair["reference"]["usage"][clock] / pair["ours"]["usage"][clock] for pair in pairs]


def _side(samples: Sequence[Sample], needed: Floor, computed: Floor) -> dict[str, Any]:
    """Return one side's medians, and how near its networks and its answer are to their floors."""
    stages = sorted({name for one in samples for name in one["timing_ms"]})
    usages = [one["usage"] for one in samples]
    wall = median(usage["wall_seconds"] for usage in usages)
    shares = [share for one in samples if (share := _share_of_peak(one, computed)) is not None]
    return {
        "wall_seconds": wall,
        "cpu_seconds": median(usage["cpu_seconds"] for usage in usages),
        "peak_rss_mib": max(usage["peak_rss_mib"] for usage in usages),
        "num_frames": samples[0]["num_frames"],
        "timing_ms": {
            name: median(one["timing_ms"].get(name, 0.0) for one in samples) for name in stages
        },
        # Of what it computes, while it computes it.
        "nets_share_of_peak": median(shares) if shares else None,
        # Of what the question needs, in all the time that it took.
        "whole_share_of_floor": sum(needed.values()) / wall,
    }


def _share_of_peak(one: Sample, floor: Floor) -> float | None:
    """Return the floor of those networks that ran over their time; None where none ran."""
    timing = one["timing_ms"]
    ran = [name for name in floor if timing.get(name)]
    seconds = sum(timing[name] for name in ran) / 1000
    return sum(floor[name] for name in ran) / seconds if ran else None


def _spread(values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    return {"median": median(values), "min": low, "max": high, "pairs": list(values)}
