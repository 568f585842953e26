"""What a model said of the moments and events of annotated videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from groundserve.evaluation.spans import Window
from groundserve.families.vtimellm.answer import find_span, read_events
from groundserve.options import Task
from groundserve.strict_json import is_finite_number

LogTask = Literal["grounding", "captioning"]
"""As the reference's log calls them."""

TASKS: dict[LogTask, Task] = {"grounding": "moment", "captioning": "captions"}
"""The same as `AnswerOptions` calls them."""

_DIGITS = 9
"""To which percent are rounded: seconds that were made of whole percent give them back."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A stretch of a video, in percent of its duration, so in the units of VTimeLLM's answers."""

    start_percent: float
    end_percent: float
    """As told, which may be before the start."""
    sentence: str = ""
    """What happens in it, where captions are told."""
    seconds: Window | None = field(default=None, compare=False)
    """The same as the answer tells it, where it tells seconds: percent of a duration give them
    back with an error of rounding."""

    def window(self, duration_seconds: float) -> Window:
        """Return start and end in seconds."""
        return self.seconds or (
            self.start_percent * duration_seconds / 100,
            self.end_percent * duration_seconds / 100,
        )


Events = tuple[Event, ...] | None
"""What one answer tells; None where it tells no times that can be read."""


def event_of(window: Window, duration_seconds: float, sentence: str = "") -> Event:
    """Return an event that is told in seconds."""
    start, end = (round(100 * seconds / duration_seconds, _DIGITS) for seconds in window)
    return Event(start_percent=start, end_percent=end, sentence=sentence, seconds=window)


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """The answer to one question for a moment."""

    video: str
    number: int
    """Place of the sentence in its video's annotation."""
    event: Event | None
    """None where the answer tells no times that can be read."""
    stated_iou: float | None = None
    """What the log says of it; None where it says nothing."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All answers of a file."""

    groundings: tuple[Grounding, ...]
    """In the order of the file, repeated questions included."""
    captions: Mapping[str, Events]
    """By video, of its last answer."""


def read_text(text: str, task: LogTask) -> Events:
    """Read the times of an answer of VTimeLLM."""
    if task == "grounding":
        span = find_span(text)
        return None if span is None else (Event(start_percent=span[0], end_percent=span[1]),)
    events = read_events(text)
    if events is None:
        return None
    # A described event ends with its last hundredth, and a moment where its own begins.
    return tuple(
        Event(start_percent=first, end_percent=last + 1, sentence=sentence)
        for (first, last), sentence in events
    )


def read_moments(moments: Any, duration_seconds: Any) -> Events:
    """Read the `moments` of an answer as `groundserve ask --json` prints them."""
    if not is_finite_number(duration_seconds) or duration_seconds <= 0:
        raise ValueError("duration_seconds must be a number above 0")
    try:
        told = [(moment["start"], moment["end"], moment["text"]) for moment in moments]
    except (KeyError, TypeError) as error:
        raise ValueError("moments must be a list of objects with start, end and text") from error
    for start, end, text in told:
        if not (is_finite_number(start) and is_finite_number(end) and isinstance(text, str)):
            raise ValueError("start and end of a moment must be seconds, its text a text")
    duration = float(duration_seconds)
    return tuple(event_of((start, end), duration, text) for start, end, text in told) or None


def plain_sentence(sentence: str) -> str:
    """Return a sentence as the reference puts it into its question.

    Case, spaces around it and one full stop make no difference.
    """
    return sentence.strip().lower().removesuffix(".")
