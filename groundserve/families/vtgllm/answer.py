"""The times in VTG-LLM's answers: seconds, read as the reference's evaluation reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from groundserve.answers import Moment
from groundserve.families.plans import SeenVideo
from groundserve.families.vtgllm.times import read_spelled
from groundserve.options import Task

Span = tuple[float, float]
"""Start and end in seconds, as an answer says them."""

# `\d` is a digit of any script, which `float` reads. A number is never given up for a part of it:
# what follows it here is none of its characters.
_NUMBER = r"\d++\.*+\d*+"
_SPAN = re.compile(rf"(?<!\d)({_NUMBER})\s*+-\s*+({_NUMBER})")
_CLOCK = re.compile(rf"(?<!\d)({_NUMBER}):({_NUMBER})")
_START = re.compile(rf"start(?:ing)? time: ({_NUMBER})")
_END = re.compile(rf"end(?:ing)? time: ({_NUMBER})")
_START_END = re.compile(rf"start time ({_NUMBER}), end time ({_NUMBER})")
_DESCRIPTION = re.compile(r"description: (.*)")
_BULLET = re.compile(r"\*\s*(.*)")
_LAST_NUMBERS = re.compile(r"\d+\.*\d*(?!\.)")
_WORD = re.compile(r"\b(\d+(?:\.\d+)?)\b")
_CLOCK_OR_WORD = re.compile(r"\b\d{1,2}:\d{2}:\d{2}\b|\b(\d+(?:\.\d+)?)\b")
_SCORE = re.compile(r"\b\d\.?\d?\b")

_RADIUS = 20
"""Seconds around a time that stands alone in a line."""


def parse_answer(text: str, task: Task, seen: SeenVideo | None = None) -> tuple[Moment, ...] | None:
    """Read the times of an answer, as `TextFamily.parse`; seconds are the video's.

    "moment": its first span, the earlier time first. "captions": its events. "highlights" and
    "summary": each time with its score; it starts and ends there. Others have no times.
    """
    try:
        match task:
            case "moment":
                found = find_span(text)
                moments = (
                    [] if found is None else [Moment(start_seconds=found[0], end_seconds=found[1])]
                )
            case "captions":
                moments = [
                    Moment(start_seconds=start, end_seconds=end, text=caption)
                    for (start, end), caption in read_events(text)
                ]
            case "highlights" | "summary":
                moments = [
                    Moment(start_seconds=time, end_seconds=time, score=score)
                    for time, score in zip(*read_highlights(text), strict=False)
                ]
            case _:
                return ()
    except ValueError:  # as "1..5", at which the reference fails
        return None
    return tuple(moments) or None


def find_span(text: str) -> Span | None:
    """Return the first span in an answer to the task "moment", None where there is none.

    Where no two numbers have a dash between, the first numbers of sentences that speak of a start,
    an end or a happening are taken; only "!", "?" and new lines end one.

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_tvg.py`; its reading of clock times is left out,
    which a number in front of it always keeps from being reached.
    """
    text = read_spelled(text).lower()
    found = _SPAN.search(text)
    if found is not None:
        times = [_seconds(found[1]), _seconds(found[2])]
    else:
        sentences = re.split(r"[!?\n]", text)
        numbers = (
            _WORD.search(sentence)
            for sentence in sentences
            if any(word in sentence for word in ("start", "end", "happen"))
        )
        times = [_seconds(number[1]) for number in numbers if number][:2]
    return (min(times), max(times)) if len(times) == 2 else None


def read_events(text: str) -> list[tuple[Span, str]]:
    """Return span and words of each event in an answer to the task "captions".

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_dvc.py`.
    """
    lowered = read_spelled(text).lower()
    spans, captions = _dashed(lowered) or _labelled(lowered) or _in_a_sentence(lowered) or ([], [])
    captions = [words.strip().strip(", ").rstrip() for words in captions if len(words) > 5]
    return list(zip(spans, captions, strict=False)) or list(_lone_event(text))


def read_highlights(text: str) -> tuple[list[float], list[float]]:
    """Return times and scores in an answer to the tasks "highlights" and "summary".

    Times and scores stand in pieces between commas and new lines, where "second" or "score" is, or
    a colon. Several times have as many scores, 0 where the answer says none; of one time, or none,
    the scores are as found.

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_vhd.py`.
    """
    # Also within words, as there: of "4th" the number is left.
    text = read_spelled(text).lower().replace("th", " ")
    if "second" not in text or "score" not in text:
        return [], []
    times, scores = [], []
    for piece in re.split(r"[,\n]+", text):
        if "score" in piece:
            scores += [float(number) for number in _SCORE.findall(piece)[-1:]]
        elif "second" in piece or ":" in piece:
            numbers = [number for number in _CLOCK_OR_WORD.findall(piece) if number]
            times += [_seconds(number) for number in numbers[-1:]]
    if len(times) > 1:
        scores = [*scores, *[0.0] * len(times)][: len(times)]
    return times, scores


_Found = tuple[list[Span], list[str]]
"""Spans, and the texts that captions are among."""


def _dashed(text: str) -> _Found | None:
    """Read `12.3 - 19.5 seconds, a man opens the door`."""
    spans, text = _taken_out(_SPAN, text)
    return (spans, text.replace("seconds", "").split("\n")) if spans else None


def _labelled(text: str) -> _Found | None:
    """Read lines as `start time: 12`, `end time: 19` and `description: a man opens the door`."""
    starts, ends = _START.findall(text), _END.findall(text)
    spans = [(_seconds(a), _seconds(b)) for a, b in zip(starts, ends, strict=False)]
    return (spans, _DESCRIPTION.findall(text) or _BULLET.findall(text)) if spans else None


def _in_a_sentence(text: str) -> _Found | None:
    """Read `start time 12, end time 19, a man opens the door`."""
    spans, text = _taken_out(_START_END, text)
    return (spans, text.split("\n")) if spans else None


def _taken_out(pattern: re.Pattern[str], text: str) -> tuple[list[Span], str]:
    """Return the spans of a pattern, and the text with new lines in their place."""
    found = list(pattern.finditer(text))
    for one in found:
        # Wherever it stands, as there: also within a longer number.
        text = text.replace(one[0], "\n")
    return [(_seconds(one[1]), _seconds(one[2])) for one in found], text


def _lone_event(text: str) -> Iterator[tuple[Span, str]]:
    """Give the first line or sentence that names a time, if any; time tokens are none here."""
    lines = text.split("\n") if "\n" in text else [f"{line}." for line in text.split(".")]
    shortest = 8 if "\n" in text else 9  # with its full stop
    for line in lines:
        if len(line) < shortest:
            continue
        parts = [part.strip(",") for part in line.split("seconds")]
        try:
            span = _span_in(parts[0])
        except ValueError:
            continue
        if span is not None:
            yield (round(span[0], 2), round(span[1], 2)), parts[-1].strip()
            return


def _span_in(text: str) -> Span | None:
    """Return what a line says of time: two times, or what is around one."""
    found = _SPAN.search(text)
    if found is not None:
        return _seconds(found[1]), _seconds(found[2])
    if text.count(":") in (1, 2):
        times = [
            _seconds(str(int(minutes) * 60 + int(seconds)))
            for minutes, seconds in _CLOCK.findall(text)
        ]
        if len(times) != text.count(":"):
            raise ValueError(f"as many times of a clock as colons, got {len(times)}")
    else:
        times = [_seconds(number) for number in _LAST_NUMBERS.findall(text)]
    match times:
        case [time] if time > _RADIUS:
            return time - _RADIUS, time + _RADIUS
        case [time]:
            return time, time + 2 * _RADIUS
        case [start, end]:
            return start, end
    return None


def _seconds(number: str) -> float:
    seconds = float(number)
    if not math.isfinite(seconds):
        raise ValueError(f"seconds must be finite, got {len(number)} digits")
    return seconds
