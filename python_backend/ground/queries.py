"""Score one video's features for several questions, one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.limits import Limits
from groundserve.manifest import ModelSpec
from groundserve.prompts import QueryTokenizer
from python_backend.ground.base import Grounder


def ground_queries(
    features: NDArray[np.float32],
    queries: Sequence[str],
    *,
    tokenizer: QueryTokenizer,
    grounder: Grounder,
    model: ModelSpec,
    limits: Limits,
    deadline: Deadline,
) -> NDArray[np.float32]:
    """Return float32 (Q, T), one row of logits a question.

    Every question is checked before the first is scored.

    Args:
        features: float32 (T, g*g, D_v), C-contiguous.
        queries: Q questions.
        tokenizer: The checkpoint's.
        grounder: The profile's.
        model: For the token limit.
        limits: For the number and length of questions.
        deadline: Checked before each question.

    Raises:
        InvalidRequestError: A question breaks a limit; where visual and text tokens together
            pass the checkpoint's maximum, the reference silently cuts the text instead.
        DeadlineExceededError: Time ran out between two questions.
    """
    num_visual = features.shape[0] * features.shape[1]
    tokenized = tokenize_queries(
        queries, num_visual_tokens=num_visual, tokenizer=tokenizer, model=model, limits=limits
    )
    frame_logits = np.empty((len(queries), len(features)), np.float32)
    for row, text_ids in zip(frame_logits, tokenized, strict=True):
        deadline.check()
        row[:] = grounder.ground(features, text_ids)
    if not np.isfinite(frame_logits).all():
        raise GroundserveError("the grounding engine returned logits that are not finite")
    return frame_logits


def tokenize_queries(
    queries: Sequence[str],
    *,
    num_visual_tokens: int,
    tokenizer: QueryTokenizer,
    model: ModelSpec,
    limits: Limits,
) -> list[NDArray[np.int64]]:
    """Check and tokenize questions; see `ground_queries`."""
    if not 1 <= len(queries) <= limits.max_queries:
        raise InvalidRequestError(
            f"QUERY must hold 1..{limits.max_queries} questions, got {len(queries)}"
        )
    tokenized = []
    for number, query in enumerate(queries):
        num_bytes = len(query.encode("utf-8", "surrogatepass"))
        if num_bytes > limits.max_query_bytes:
            raise InvalidRequestError(
                f"QUERY[{number}] must be at most {limits.max_query_bytes} bytes, got {num_bytes}"
            )
        text_ids = tokenizer.text_ids(query)
        num_tokens = num_visual_tokens + len(text_ids)
        if model.max_tokens is not None and num_tokens > model.max_tokens:
            raise InvalidRequestError(
                f"QUERY[{number}] has {len(text_ids)} tokens beside {num_visual_tokens} visual "
                f"tokens, together more than {model.max_tokens}; shorten it"
            )
        tokenized.append(text_ids)
    return tokenized
