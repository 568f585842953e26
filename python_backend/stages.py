"""The generation stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.families.plans import Prompt
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.generate import Decoder, Front, Generation, OnToken, Turns, answer_questions
from python_backend.meter import Meter


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """The generation stage: a decoder, and what makes its embeddings."""

    front: Front
    decoder: Decoder

    def answer(
        self,
        features: Array,
        inputs: Sequence[NDArray[np.float32]],
        prompts: Sequence[Prompt],
        options: AnswerOptions,
        *,
        end_ids: frozenset[int],
        deadline: Deadline,
        meter: Meter,
        others_wait: Callable[[], bool] = lambda: False,
        on_token: OnToken | None = None,
    ) -> Turns[Generation]:
        """Run `answer_questions`."""
        return answer_questions(
            features,
            inputs,
            prompts,
            options,
            front=self.front,
            decoder=self.decoder,
            end_ids=end_ids,
            deadline=deadline,
            meter=meter,
            others_wait=others_wait,
            on_token=on_token,
        )
