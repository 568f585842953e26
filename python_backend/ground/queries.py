"""The questions of one request: checked, tokenized, then scored one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.limits import Limits
from groundserve.manifest import ModelSpec
from groundserve.prompts import QueryTokenizer
from python_backend.ground.base import Grounder


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """Q questions within a server's limits."""

    text_ids: Sequence[NDArray[np.int64]]
    """Of each question int64 (L,)."""
    max_tokens: int | None
    """Visual and text tokens together, as `ModelSpec.max_tokens`."""

    @classmethod
    def parse(
        cls,
        queries: Sequence[str],
        *,
        tokenizer: QueryTokenizer,
        model: ModelSpec,
        limits: Limits,
    ) -> Questions:
        """Check and tokenize questions.

        Raises:
            InvalidRequestError: Their number, the length of one, or what it holds breaks a rule.
        """
        if not 1 <= len(queries) <= limits.max_queries:
            raise InvalidRequestError(
                f"QUERY must hold 1..{limits.max_queries} questions, got {len(queries)}"
            )
        for number, query in enumerate(queries):
            num_bytes = len(query.encode("utf-8", "surrogatepass"))
            if num_bytes > limits.max_query_bytes:
                raise InvalidRequestError(
                    f"QUERY[{number}] must be at most {limits.max_query_bytes} bytes, "
                    f"got {num_bytes}"
                )
        text_ids = [tokenizer.text_ids(query) for query in queries]
        return cls(text_ids=text_ids, max_tokens=model.max_tokens)

    def check_fit(self, num_visual_tokens: int) -> None:
        """Refuse a question for which the video leaves no room.

        Raises:
            InvalidRequestError: Visual and text tokens together pass the checkpoint's maximum; the
                reference silently cuts the text instead.
        """
        if self.max_tokens is None:
            return
        for number, text_ids in enumerate(self.text_ids):
            if num_visual_tokens + len(text_ids) > self.max_tokens:
                raise InvalidRequestError(
                    f"QUERY[{number}] has {len(text_ids)} tokens beside {num_visual_tokens} visual "
                    f"tokens, together more than {self.max_tokens}; shorten it"
                )


def ground_questions(
    features: NDArray[np.float32], questions: Questions, grounder: Grounder, *, deadline: Deadline
) -> NDArray[np.float32]:
    """Return float32 (Q, T), one row of logits a question.

    Every question is checked before the first is scored.

    Args:
        features: float32 (T, g*g, D_v), C-contiguous.
        questions: Q questions.
        grounder: The profile's.
        deadline: Checked before each question.

    Raises:
        InvalidRequestError: A question does not fit beside the visual tokens.
        DeadlineExceededError: Time ran out between two questions.
    """
    questions.check_fit(features.shape[0] * features.shape[1])
    frame_logits = np.empty((len(questions.text_ids), len(features)), np.float32)
    for row, text_ids in zip(frame_logits, questions.text_ids, strict=True):
        deadline.check()
        row[:] = grounder.ground(features, text_ids)
    if not np.isfinite(frame_logits).all():
        raise GroundserveError("the grounding engine returned logits that are not finite")
    return frame_logits
