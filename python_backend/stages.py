"""Whoever opens the stages of a request: what `Pipeline` asks of a directory or a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import Manifest
from groundserve.families.base import AnswerTokenizer, QueryTokenizer
from groundserve.families.plans import Prompt
from groundserve.media import MediaWorkers
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.decode import FrameDecoder
from python_backend.encode import VisionEncoder
from python_backend.generate import Decoder, Front, Generation, OnToken, Turns, answer_questions
from python_backend.ground import Grounder
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
        """See `answer_questions`."""
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


class Stages(Protocol):
    """The stages of one model; each is opened when it is asked for."""

    @property
    def manifest(self) -> Manifest:
        """What is opened."""

    def open_decoder(
        self, workers: MediaWorkers, *, meter: Meter, num_threads: int
    ) -> FrameDecoder:
        """Open the decode stage on workers whose deaths are counted.

        Args:
            workers: Processes in which FFmpeg decodes.
            meter: Where work is counted.
            num_threads: Segments that DALI decodes side by side.
        """

    def open_encoder(self, *, num_threads: int) -> VisionEncoder:
        """Open the vision stage; PyTorch's threads are those of the whole process."""

    def open_grounder(self, *, num_threads: int) -> Grounder:
        """Open the grounding stage; PyTorch's threads are those of the whole process.

        Raises:
            UnsupportedError: The family is not of head "frames".
        """

    def open_generator(self, *, num_threads: int) -> Generator:
        """Open the generation stage; PyTorch's threads are those of the whole process.

        Raises:
            UnsupportedError: The family is not of head "text".
        """

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the model's tokenizer, where the family is of head "frames".

        Raises:
            UnsupportedError: It is not.
        """

    def open_answer_tokenizer(self) -> AnswerTokenizer:
        """Open the model's tokenizer, where the family is of head "text".

        Raises:
            UnsupportedError: It is not.
        """
