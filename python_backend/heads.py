"""The heads: what stands behind FEATURES, with the tokenizer that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import OnText
from groundserve.families.base import AnswerTokenizer, ModelSpec, QueryTokenizer, TextFamily
from groundserve.families.plans import SeenVideo
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.answers import Answers, Prompts, Room, TextStream, read_answers
from python_backend.arrays import Array
from python_backend.generate import Generator, finish
from python_backend.ground import Grounder, Questions, ground_questions
from python_backend.meter import Meter

if TYPE_CHECKING:
    from python_backend.checkpoint import CheckpointStages
    from python_backend.engine import EngineDirectory

Stages: TypeAlias = "EngineDirectory | CheckpointStages"
"""What opens the stages of a model, each when it is asked for."""


def open_head(
    stages: Stages, *, limits: Limits, meter: Meter, num_threads: int
) -> FramesHead | TextHead:
    """Open the head of a model's family."""
    if stages.manifest.head == "text":
        return TextHead.open(stages, limits=limits, meter=meter, num_threads=num_threads)
    return FramesHead.open(stages, limits=limits, num_threads=num_threads)


@dataclass(frozen=True, kw_only=True, eq=False)
class FramesHead:
    """Scores frames: one logit for each."""

    grounder: Grounder
    tokenizer: QueryTokenizer
    model: ModelSpec
    limits: Limits

    @classmethod
    def open(cls, stages: Stages, *, limits: Limits, num_threads: int) -> Self:
        """Load the grounding stage."""
        return cls(
            grounder=stages.open_grounder(num_threads=num_threads),
            tokenizer=stages.open_tokenizer(),
            model=stages.manifest.model,
            limits=limits,
        )

    def parse(self, queries: Sequence[str]) -> Questions:
        """Check and tokenize questions."""
        return Questions.parse(
            queries, tokenizer=self.tokenizer, model=self.model, limits=self.limits
        )

    def ground(
        self, features: Array, questions: Questions, *, deadline: Deadline
    ) -> NDArray[np.float32]:
        """Run `ground_questions`."""
        return ground_questions(features, questions, self.grounder, deadline=deadline)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextHead:
    """Answers in text, with times."""

    generator: Generator
    tokenizer: AnswerTokenizer
    family: TextFamily[Any]
    model: ModelSpec
    room: Room
    limits: Limits
    meter: Meter

    @classmethod
    def open(cls, stages: Stages, *, limits: Limits, meter: Meter, num_threads: int) -> Self:
        """Load the generation stage."""
        return cls(
            generator=stages.open_generator(num_threads=num_threads),
            tokenizer=stages.open_answer_tokenizer(),
            family=stages.manifest.text_seam,
            model=stages.manifest.model,
            room=stages.room,
            limits=limits,
            meter=meter,
        )

    def parse(self, queries: Sequence[str], options: AnswerOptions) -> Prompts:
        """Check questions and make prompts of them."""
        return Prompts.parse(
            queries,
            options,
            family=self.family,
            tokenizer=self.tokenizer,
            room=self.room,
            limits=self.limits,
        )

    def answer(
        self,
        features: Array,
        queries: Prompts,
        seen: SeenVideo,
        *,
        deadline: Deadline,
        on_text: OnText | None = None,
    ) -> Answers:
        """Answer every question about one video; all are checked before the first is answered."""
        prompts = queries.of(seen)
        generation = finish(
            self.generator.answer(
                features,
                self.family.front_arrays(seen, self.model),
                prompts,
                queries.options,
                end_ids=self.tokenizer.end_ids,
                deadline=deadline,
                meter=self.meter,
                on_token=on_text and TextStream(self.tokenizer, on_text).add,
            )
        )
        return read_answers(queries, prompts, generation, family=self.family, seen=seen)
