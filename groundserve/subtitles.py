"""The stretches of time that an answer names, as subtitles."""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from groundserve.answers import Answer, AnswerResult
from groundserve.results import ScoreResult


class Cue(NamedTuple):
    """One subtitle."""

    start_seconds: float
    end_seconds: float
    text: str
    """One line."""


def cues_of(result: ScoreResult | AnswerResult) -> list[Cue]:
    """Return a cue for each span or moment of all questions, in the order of time.

    A cue says what happens in its moment, or the question where the answer says only when. Moments
    that end before they start have none.
    """
    if isinstance(result, ScoreResult):
        cues = [
            Cue(span.start_seconds, span.end_seconds, _line(query.query))
            for query in result.queries
            for span in query.spans
        ]
    else:
        cues = [
            Cue(moment.start_seconds, moment.end_seconds, _said(answer, moment.text))
            for answer in result.answers
            for moment in answer.moments
        ]
    return sorted(cue for cue in cues if cue.start_seconds <= cue.end_seconds)


def srt_text(cues: list[Cue]) -> str:
    """Return the content of an SRT file."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_seconds)} --> {_clock(cue.end_seconds)}\n{cue.text}\n"
        for number, cue in enumerate(cues, start=1)
    )


def webvtt_text(cues: list[Cue]) -> str:
    """Return the content of a WebVTT file."""
    blocks = [
        f"{_clock(cue.start_seconds)} --> {_clock(cue.end_seconds)}\n"
        f"{html.escape(cue.text, quote=False)}\n".replace(",", ".", 2)
        for cue in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _said(answer: Answer, text: str) -> str:
    return _line(text or answer.query or answer.task)


def _line(text: str) -> str:
    # Neither an empty line nor the arrow between two times may stand in a cue's text.
    return " ".join(re.sub("-{2,}>", "->", text).split())


def _clock(seconds: float) -> str:
    """Return `hh:mm:ss,mmm`, 0 for what an answer puts before the video."""
    total_ms = max(0, round(seconds * 1000))
    total_seconds, ms = divmod(total_ms, 1000)
    minutes, seconds_left = divmod(total_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds_left:02d},{ms:03d}"
