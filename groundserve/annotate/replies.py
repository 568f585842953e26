"""What a model must reply at each stage, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from groundserve.annotate.rules import Stage
from groundserve.errors import GroundserveError

# A number of thousands of digits is none that Python converts.
_CLIPS = re.compile(r"(?:One clip|Multiple clips): \[(Clip-\d{1,9}(?:, Clip-\d{1,9})*)\]\.?")
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_Read = TypeVar("_Read", bound=BaseModel)
YesNo = Literal["Yes", "No"]


class InvalidReplyError(GroundserveError):
    """A reply that cannot be used; the message says why."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Clips(_Reply):
    """Which clips a question is answered by."""

    explanation: str
    clip_num: str = Field(
        description="One clip: [Clip-2], or Multiple clips: [Clip-1, Clip-7], or None."
    )

    def numbers(self, num_clips: int) -> list[int]:
        """Return the clips, increasing; raise InvalidReplyError where one does not exist."""
        if self.clip_num.strip() in ("None", "None."):
            return []
        found = _CLIPS.fullmatch(self.clip_num.strip())
        if not found:
            raise InvalidReplyError(
                "clip_num must read One clip: [Clip-2], Multiple clips: [Clip-1, Clip-7] or None."
            )
        numbers = sorted({int(number) for number in re.findall(r"\d+", found[1])})
        if numbers[-1] >= num_clips:
            raise InvalidReplyError(f"there is no Clip-{numbers[-1]}")
        return numbers


class Motion(_Reply):
    """Whether a question is about speed."""

    motion: YesNo


class Existence(_Reply):
    """Whether a question asks for something that is not there."""

    existence: YesNo


class Type(_Reply):
    """Which kind of frames answers a question."""

    type: Literal["semantic", "motion", "both", "non_clue"]


class Verdict(_Reply):
    """What is said of one frame."""

    frame: int
    relevant: YesNo
    reason: str


class Verdicts(_Reply):
    """What is said of all frames that were shown."""

    frames: list[Verdict]

    def of(self, shown: Sequence[int]) -> list[Verdict]:
        """Return one for each frame that was shown, in order, or raise InvalidReplyError."""
        told = sorted(self.frames, key=lambda verdict: verdict.frame)
        if [verdict.frame for verdict in told] != list(shown):
            numbers = ", ".join(map(str, shown))
            raise InvalidReplyError(f"frames must have each of the frames {numbers} once")
        return told


class Proposal(_Reply):
    """A question that was thought of."""

    question: str = Field(min_length=1)
    answer: str


class Proposals(_Reply):
    """Questions about a video."""

    questions: list[Proposal] = Field(min_length=1)


MODELS: dict[Stage, type[BaseModel]] = {
    "propose": Proposals,
    "retrieve": Clips,
    "type": Type,
    "motion": Motion,
    "existence": Existence,
    "localise": Verdicts,
}
"""The stages whose replies are JSON; those of the others are text."""


def read_text(text: str) -> str:
    """Return a reply on one line, or raise InvalidReplyError where it is empty.

    Asterisks are taken out, for a caption stands among others that are marked with them: none must
    be able to end, and begin another one.
    """
    found = " ".join(text.replace("*", " ").split())
    if not found:
        raise InvalidReplyError("the reply is empty")
    return found


def json_reader(model: type[_Read], use: Callable[[_Read], Any]) -> Callable[[str], Any]:
    """Return what reads a reply and takes what is needed from it, or raises InvalidReplyError."""

    def read(text: str) -> Any:
        fenced = _FENCED.search(text)
        try:
            return use(model.model_validate_json(fenced[1] if fenced else text))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the reply"
            raise InvalidReplyError(f"{where}: {first['msg']}") from None

    return read
