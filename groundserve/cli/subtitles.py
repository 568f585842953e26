"""The moments of an answer as subtitles, which players show over the video."""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from groundserve.answers import Answer, AnswerResult, Moment
from groundserve.errors import InvalidRequestError


def save_subtitles(path: str | PathLike[str], result: AnswerResult) -> int:
    """Write an SRT file: a cue for each moment of all answers, in the order of time.

    A cue says what happens in its moment, or the question where the answer says only when. Nothing
    can be shown from a later time to an earlier one: such moments have no cue.

    Returns:
        How many moments end before they start and were left out.

    Raises:
        InvalidRequestError: The file cannot be written.
    """
    moments = [
        (moment.start_seconds, moment.end_seconds, _said(answer, moment))
        for answer in result.answers
        for moment in answer.moments
    ]
    cues = sorted(moment for moment in moments if moment[0] <= moment[1])
    blocks = [
        f"{number}\n{_clock(start)} --> {_clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(cues, start=1)
    ]
    try:
        # Questions from a locale of ASCII may hold half a character.
        Path(path).write_text("\n".join(blocks), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error
    return len(moments) - len(cues)


def _said(answer: Answer, moment: Moment) -> str:
    text = moment.text or answer.query or answer.task
    # Neither an empty line nor the arrow between two times may stand in a cue's text.
    return " ".join(re.sub("-{2,}>", "->", text).split())


def _clock(seconds: float) -> str:
    """Return `hh:mm:ss,mmm`, 0 for what an answer puts before the video."""
    total_ms = max(0, round(seconds * 1000))
    total_seconds, ms = divmod(total_ms, 1000)
    minutes, seconds_left = divmod(total_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds_left:02d},{ms:03d}"
