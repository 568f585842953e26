"""What a model must reply at each stage, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from groundserve.annotate.prompts import Stage

_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
_CLIPS = r"^\s*(None\.?|(One clip|Multiple clips): \[Clip-\d{1,9}(, Clip-\d{1,9})*\]\.?)\s*$"


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Clips(_Reply):
    """Which clips a question is answered by."""

    explanation: str
    clip_num: str = Field(
        pattern=_CLIPS,
        description="One clip: [Clip-2], or Multiple clips: [Clip-1, Clip-7], or None.",
    )

    def numbers(self, num_clips: int) -> list[int]:
        """Return the clips, increasing; raise ValueError where one does not exist."""
        numbers = sorted({int(number) for number in re.findall(r"\d+", self.clip_num)})
        if numbers and numbers[-1] >= num_clips:
            raise ValueError(f"there is no Clip-{numbers[-1]}")
        return numbers


class Verdict(_Reply):
    """What is said of one frame."""

    frame: int
    relevant: Literal["Yes", "No"]
    reason: str


class Verdicts(_Reply):
    """What is said of all frames that were shown."""

    frames: list[Verdict]

    def of(self, shown: Sequence[int]) -> list[Verdict]:
        """Return one for each frame that was shown, in order, or raise ValueError."""
        told = sorted(self.frames, key=lambda verdict: verdict.frame)
        if [verdict.frame for verdict in told] != list(shown):
            numbers = ", ".join(map(str, shown))
            raise ValueError(f"frames must have each of the frames {numbers} once")
        return told


class _Proposal(_Reply):
    question: str = Field(min_length=1)
    answer: str


class _Proposals(_Reply):
    questions: list[_Proposal] = Field(min_length=1)


def _word(stage: Stage, words: Any) -> type[BaseModel]:
    fields: dict[str, Any] = {stage: (words, ...)}
    return create_model(stage, __base__=_Reply, **fields)


MODELS: dict[Stage, type[BaseModel]] = {
    "propose": _Proposals,
    "retrieve": Clips,
    "localise": Verdicts,
    "type": _word("type", Literal["semantic", "motion", "both", "non_clue"]),
    "motion": _word("motion", Literal["Yes", "No"]),
    "existence": _word("existence", Literal["Yes", "No"]),
}
"""The stages whose replies are JSON; those of the others are text."""


def read_reply(stage: Stage, text: str) -> Any:
    """Return a stage's model, or a text on one line; ValueError says what is wrong with a reply.

    Asterisks are taken out, for a caption stands among others that are marked with them: none must
    be able to end, and begin another one.
    """
    if stage not in MODELS:
        if found := " ".join(text.replace("*", " ").split()):
            return found
        raise ValueError("the reply is empty")
    fenced = _FENCED.search(text)
    try:
        return MODELS[stage].model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        raise ValueError(f"{where}: {first['msg']}") from None
