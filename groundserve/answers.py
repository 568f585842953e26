"""What a request to a family of head "text" answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.options import Task
from groundserve.results import (
    COUNT,
    Checks,
    Shown,
    VideoResult,
    foreign_answer,
    is_count,
    take_fields,
)
from groundserve.strict_json import is_finite_number, parse_object, shown

OnText = Callable[[int, str], None]
"""Told the number of a question, from 0, and the next piece of its answer's text. The questions
come one after another; the pieces of one, put together, begin its `Answer.text`. What it raises
ends the request."""

StopReason = Literal["eos", "length", "deadline"]
"""Why an answer ends: with its end token, at `max_new_tokens`, or because time ran out."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A stretch of the video that an answer speaks of."""

    start_seconds: float
    """From the start of the video."""
    end_seconds: float
    """As the answer says it, which may be before the start."""
    score: float | None = None
    """None where the task has none."""
    text: str = ""
    """What happens in it, where the task says that."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "start": self.start_seconds,
            "end": self.end_seconds,
            "score": self.score,
            "text": self.text,
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            start_seconds=given["start"],
            end_seconds=given["end"],
            score=given["score"],
            text=given["text"],
        )


@dataclass(frozen=True, kw_only=True)
class GenerationInfo:
    """What INFO says of the answers, beside what it says of the video: the object `generation`."""

    prefix_tokens: int
    """Positions, the video's block among them, that were computed once for all questions; twice
    where some prompts are so long that the decoder rotates all their positions otherwise."""
    prompt_tokens: int
    """Positions of all prompts behind the prefix."""
    generated_tokens: int
    """Tokens of all answers."""
    seed: int | None
    """Of the draws; None where nothing was drawn."""
    time_range_seconds: tuple[float, float] | None
    """The part of the video that was seen, where times in the answers are fractions of it."""
    stop_reasons: tuple[StopReason, ...]
    """Of each answer."""
    is_read: tuple[bool, ...]
    """Of each answer whether its times could be read; true where the task has none."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, info: str | bytes) -> Self:
        """Read it out of the INFO of a server, which may be newer than this client.

        Raises:
            GroundserveError: It is not what a server of groundserve answers.
        """
        try:
            given = parse_object(info, "INFO").get("generation")
        except InvalidRequestError as error:  # the server's fault, not the caller's
            raise foreign_answer(str(error)) from error
        if not isinstance(given, dict):
            raise foreign_answer(f"generation of INFO must be an object, got {shown(given)}")
        values: dict[str, Any] = take_fields(given, _CHECKS)
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answer(Shown):
    """One question's answer."""

    query: str
    """The question as asked; empty where the task takes none."""
    task: Task
    """What was asked."""
    prompt_token_ids: NDArray[np.int32]
    """int32 (L,), the whole prompt, -200 for the video's block."""
    token_ids: NDArray[np.int32]
    """int32 (n,), what was generated, its end token included."""
    text: str
    """The same as text, without special tokens."""
    moments: tuple[Moment, ...]
    """What the text says of times; empty where it says nothing that can be read."""
    stop_reason: StopReason
    """Why it ends."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AnswerResult(VideoResult):
    """The answers to one or more questions about one video."""

    answers: list[Answer]
    """One entry a question, in the order asked."""
    generation: GenerationInfo
    """Of the work on all of them."""
    request_id: str | None = None
    """Under which the server's log knows the request; None where no server was asked."""

    @staticmethod
    def _own_from_json(text: str | bytes, given: dict[str, Any]) -> dict[str, Any]:
        answers = [
            Answer(
                **one
                | {
                    "prompt_token_ids": np.array(one["prompt_token_ids"], np.int32),
                    "token_ids": np.array(one["token_ids"], np.int32),
                    "moments": tuple(map(Moment.from_json, one["moments"])),
                }
            )
            for one in given["answers"]
        ]
        return {
            "answers": answers,
            "generation": GenerationInfo.from_json(text),
            "request_id": given.get("request_id"),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON answer of `groundserve ask --json`."""
        family = self.info.engine["family"]
        return {"video": self.video, "family": family, **super().to_json()}


def _is_range(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and all(map(is_finite_number, value))
    )


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(one) is kind for one in value)


_CHECKS: Checks = {
    "prefix_tokens": COUNT,
    "prompt_tokens": COUNT,
    "generated_tokens": COUNT,
    "seed": ("a whole number >= 0 or null", lambda value: value is None or is_count(value)),
    "time_range_seconds": ("two finite numbers or null", _is_range),
    "stop_reasons": ("a list of texts", _is_list_of(str)),
    "is_read": ("a list of true and false", _is_list_of(bool)),
}
