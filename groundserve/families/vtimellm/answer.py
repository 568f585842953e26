"""The times in VTimeLLM's answers: hundredths of what was seen, as two digits."""

from __future__ import annotations

import json
import re

from groundserve.answers import Moment
from groundserve.families.plans import SeenVideo
from groundserve.options import Task

# `\d` is a digit of any script, which `int` reads.
_SPAN = re.compile(r"(\d{2}) (?:to|and) (\d{2})")
_LIST = re.compile(r"\[.*\]")  # within a line

Span = tuple[int, int]
"""First and last hundredth."""


def parse_answer(text: str, task: Task, seen: SeenVideo) -> tuple[Moment, ...] | None:
    """Read the times of an answer as the reference's evaluation does; see `TextFamily.parse`.

    "moment": the first span. "captions": a JSON list of events, up to the first that cannot be
    read; () of an empty one. Others have no times. A moment ends where its last hundredth begins, a
    caption where it ends, as the reference counts each.
    """
    match task:
        case "moment":
            span = find_span(text)
            return None if span is None else (_moment(*span, seen),)
        case "captions":
            events = read_events(text)
            if events is None:
                return None
            return tuple(_moment(first, last + 1, seen, event) for (first, last), event in events)
        case _:
            return ()


def find_span(text: str) -> Span | None:
    """Return the first span in an answer to the task "moment", None where there is none.

    Of a longer number the two digits nearest to the word between are taken.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py::iou`.
    """
    found = _SPAN.search(text)
    return None if found is None else (int(found[1]), int(found[2]))


def read_events(text: str) -> list[tuple[Span, str]] | None:
    """Return span and words of each event before the first that cannot be read, None where none is.

    Their times are taken by place, as in `from 05 to 10`: characters 5 and 6, and the last two.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/metric.py::captioning_metrics`.
    """
    found = _LIST.search(text)
    if found is None:
        return None
    try:
        items = json.loads(found[0])
    except (ValueError, RecursionError):
        return None
    events: list[tuple[Span, str]] = []
    try:
        for item in items:
            times, event = item["timestamps"], item["event"]
            # JSON can escape half a character, which is no text.
            words = event.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            events.append(((int(times[5:7]), int(times[-2:])), words))
    except (AttributeError, KeyError, TypeError, ValueError):
        return events or None
    return events


def _moment(start: int, end: int, seen: SeenVideo, text: str = "") -> Moment:
    assert seen.time_range_seconds is not None, "the plan of this family always has one"
    first, last = seen.time_range_seconds
    length = last - first
    return Moment(
        start_seconds=first + start * length / 100,
        end_seconds=first + end * length / 100,
        text=text,
    )
