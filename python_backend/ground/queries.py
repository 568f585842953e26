"""The questions of one request: checked, tokenized, then scored one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.families.base import ModelSpec, QueryTokenizer
from groundserve.families.plans import VideoPlan
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.ground.base import Grounder
from python_backend.interruption import ending_with


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """Q questions within a server's limits."""

    text_ids: Sequence[NDArray[np.int64]]
    """int64 (L,) for each question."""
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
        """Tokenize questions, without the prompt around them."""
        check_number(len(queries), limits)
        # surrogatepass: only the size is looked at here.
        check_sizes([len(query.encode("utf-8", "surrogatepass")) for query in queries], limits)
        text_ids = [tokenizer.text_ids(query) for query in queries]
        return cls(text_ids=text_ids, max_tokens=model.max_tokens)

    def check_fit(self, plan: VideoPlan) -> None:
        """Refuse before anything is decoded a question for which the video leaves no room."""
        self.check_tokens(plan.num_visual_tokens)

    def check_tokens(self, num_visual_tokens: int) -> None:
        """Refuse a question for which so many visual tokens leave no room.

        The reference silently cuts the text instead.
        """
        if self.max_tokens is None:
            return
        for number, text_ids in enumerate(self.text_ids):
            if num_visual_tokens + len(text_ids) > self.max_tokens:
                raise InvalidRequestError(
                    f"QUERY[{number}] has {len(text_ids)} tokens beside {num_visual_tokens} visual "
                    f"tokens, together more than {self.max_tokens}; shorten it"
                )


def check_number(num_queries: int, limits: Limits) -> None:
    """Raise InvalidRequestError unless there is a question, and no more than `max_queries`."""
    if not 1 <= num_queries <= limits.max_queries:
        raise InvalidRequestError(
            f"QUERY must hold 1..{limits.max_queries} questions, got {num_queries}"
        )


def check_sizes(num_bytes: Sequence[int], limits: Limits) -> None:
    """Raise InvalidRequestError where questions take too many bytes of UTF-8."""
    for number, size in enumerate(num_bytes):
        if size > limits.max_query_bytes:
            raise InvalidRequestError(
                f"QUERY[{number}] must be at most {limits.max_query_bytes} bytes, got {size}"
            )
    if sum(num_bytes) > limits.max_text_bytes:
        raise InvalidRequestError(
            f"QUERY must be at most {limits.max_text_bytes} bytes in all (max_text_bytes), got "
            f"{sum(num_bytes)}; ask in several requests"
        )


def ground_questions(
    features: Array, questions: Questions, grounder: Grounder, *, deadline: Deadline
) -> NDArray[np.float32]:
    """Return float32 (Q, T), one row of logits a question, for (U, P, D), C-contiguous.

    Every question is checked before the first is scored, the deadline before each.
    """
    questions.check_tokens(features.shape[0] * features.shape[1])
    rows: list[NDArray[np.float32]] = []
    with ending_with(deadline):
        for text_ids in questions.text_ids:
            deadline.check()
            rows.append(grounder.ground(features, text_ids))
    frame_logits = np.stack(rows)
    # NaN would come last in every ranking and look like an answer.
    if not np.isfinite(frame_logits).all():
        raise GroundserveError("the grounding engine returned logits that are not finite")
    return frame_logits
