"""Times as Grounded-VideoLLM writes them: tokens that count 300ths of the video."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from groundserve.errors import InvalidRequestError

NUM_STEPS = 300
"""Steps that a video is divided into, however long it is."""

GROUNDING_TOKEN = "<timestamp_grounding>"
"""Stands in a prompt whose answer is to say times."""

NEW_TOKENS = (*(f"<{step}>" for step in range(NUM_STEPS + 1)), GROUNDING_TOKEN)
"""What the model's vocabulary has beside the decoder's own, in the order of the ids."""

# `\d` is a digit of any script, which `float` reads.
_TOKEN = re.compile(r"<(\d+)>")
# A number is tried from its first digit alone: from each of them, time would grow with the square.
_WHOLE_SECONDS = re.compile(r"(?<!\d)(\d+) seconds")
_SECONDS = re.compile(r"(?<!\d)(\d+(?:\.\d+)?) seconds?\b")


@dataclass(frozen=True, kw_only=True)
class WrittenTime:
    """A time in a text."""

    start: int
    """Place in the text of its first character."""
    end: int
    """Place behind its last."""
    seconds: float


def find_times(text: str, duration_seconds: float) -> Iterator[WrittenTime]:
    """Yield the times that an answer says, those past the video's end among them.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `inference.py::parse_time_interval`.
    """
    for match in _TOKEN.finditer(text):
        seconds = duration_seconds * float(match[1]) / NUM_STEPS
        if math.isfinite(seconds):
            yield WrittenTime(start=match.start(), end=match.end(), seconds=seconds)


def write_whole_seconds(text: str, duration_seconds: float) -> str:
    """Write tokens for whole seconds, as the reference does in its mode `referring`.

    A fraction loses what stands before its point, and a time past the end is no token.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `inference.py::create_inputs`.
    """
    return _WHOLE_SECONDS.sub(lambda match: _token(match[1], duration_seconds), text)


def write_seconds(text: str, duration_seconds: float, *, mark: str = "") -> tuple[str, int]:
    """Write tokens for seconds, fractions too.

    Args:
        text: Of a question.
        duration_seconds: What `<300>` says.
        mark: Put in front of each token.

    Returns:
        The text, and how many tokens were written.
    """

    def token(match: re.Match[str]) -> str:
        if float(match[1]) > duration_seconds:
            raise InvalidRequestError(
                f"QUERY names a time past the video's end, which is at {duration_seconds:g} s, "
                f"got {match[0][:40]}"
            )
        return mark + _token(match[1], duration_seconds)

    written, number = _SECONDS.subn(token, text)
    if not number:
        raise InvalidRequestError(
            "QUERY must name the times it refers to with task referring, each as in "
            "'from 70 seconds to 80 seconds'"
        )
    return written, number


def _token(seconds: str, duration_seconds: float) -> str:
    steps = float(seconds) / duration_seconds * NUM_STEPS
    if math.isinf(steps):
        raise InvalidRequestError("QUERY names a number of seconds that is past all numbers")
    return f"<{int(steps)}>"
