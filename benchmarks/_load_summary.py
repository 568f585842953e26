"""What a load's samples and readings come to."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks._loops import Measured, Sample
from benchmarks._report import spread
from benchmarks._server_view import Reading, milliseconds_by_model


def summarise(measured: Measured[Reading], *, slo_seconds: float, num_cores: int) -> dict[str, Any]:
    """Return the figures of a load, without its warm-up.

    Rates count the answers that came within the windows. All else, latencies and refusals too, is
    of the requests that were due within them, whenever they were answered.

    Args:
        measured: The load.
        slo_seconds: An answer within this is good.
        num_cores: For the floor.
    """
    bounds = measured.bounds
    start, end = bounds[0], bounds[-1]
    due = [one for one in measured.samples if start <= one.due < end]
    answered = [one for one in due if one.code == "ok"]
    done = [one.done for one in measured.samples if one.code == "ok"]
    rates = [
        sum(since <= at < until for at in done) / (until - since)
        for since, until in pairwise(bounds)
    ]
    num_done = sum(start <= at < end for at in done)
    return {
        "windows": len(rates),
        "measured_seconds": end - start,
        "is_stable": measured.is_stable,
        "offered_per_second": len(due) / (end - start),
        "answers_per_second": num_done / (end - start),
        "answers_per_second_by_window": rates,
        "goodput_per_second": sum(one.seconds <= slo_seconds for one in answered) / (end - start),
        "outcomes": dict(Counter(one.code for one in due)),
        "num_not_answered": len(due) - len(answered),
        "seconds": spread_or_none([one.seconds for one in answered]),
        "refused_seconds": {
            code: spread([one.seconds for one in due if one.code == code])
            for code in sorted({one.code for one in due} - {"ok"})
        },
        "sent_late_seconds": spread_or_none([one.sent - one.due for one in due]),
        "by_kind": {
            name: _describe_kind([one for one in answered if one.is_cached is is_cached])
            for name, is_cached in (("cached", True), ("cold", False))
        },
        "server_ms_by_model": milliseconds_by_model(measured.readings[0], measured.readings[-1]),
        "cpu": _describe_cpu(measured.readings, num_done, num_cores),
    }


def spread_or_none(values: list[float]) -> dict[str, float] | None:
    """Return the spread; None of nothing."""
    return spread(values) if values else None


def _describe_kind(answered: list[Sample]) -> dict[str, Any] | None:
    if not answered:
        return None
    infos = [one.info for one in answered if one.info is not None]
    stages = sorted({stage for info in infos for stage in info.timing_ms})
    return {
        "seconds": spread([one.seconds for one in answered]),
        "cache_hit_share": float(np.mean([info.cache_hit for info in infos])),
        "median_ms_by_stage": {
            stage: float(np.median([info.timing_ms.get(stage, 0.0) for info in infos]))
            for stage in stages
        },
    }


def _describe_cpu(readings: list[Reading], num_done: int, num_cores: int) -> dict[str, Any]:
    """Return processor seconds for each answer, and how many answers the cores could give."""
    first, last = readings[0], readings[-1]
    seconds = last.at - first.at
    by_process = {
        name: used - first.server_cpu.get(name, 0.0) for name, used in last.server_cpu.items()
    }
    generator = last.generator_cpu - first.generator_cpu
    found: dict[str, Any] = {"generator_cores": generator / seconds}
    if not num_done:
        return found
    found["generator_seconds_per_answer"] = generator / num_done
    if by_process:
        total = (sum(by_process.values()) + generator) / num_done
        floor = num_cores / total
        found |= {
            "server_cores": sum(by_process.values()) / seconds,
            "server_seconds_per_answer": sum(by_process.values()) / num_done,
            "seconds_per_answer": total,
            "server_seconds_per_answer_by_process": {
                name: used / num_done for name, used in sorted(by_process.items())
            },
            "floor_answers_per_second": floor,
            "share_of_floor": num_done / seconds / floor,
        }
    return found
