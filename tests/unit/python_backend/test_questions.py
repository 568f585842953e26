from __future__ import annotations

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import GroundserveError, InvalidRequestError
from python_backend.ground import Questions, ground_questions

FEATURES = np.zeros((3, 4, 2), np.float32)  # 12 visual tokens


def questions(*lengths: int, max_tokens: int | None = 20) -> Questions:
    return Questions(text_ids=[np.arange(length) for length in lengths], max_tokens=max_tokens)


class LengthGrounder:
    """Every frame's logit is the length of the question."""

    def __init__(self, *, scale: float = 1.0):
        self.scale = scale

    def ground(self, features, text_ids):
        return np.full(len(features), len(text_ids) * self.scale, np.float32)


def test_question_without_room_is_refused_with_both_counts():
    questions(8).check_tokens(12)
    with pytest.raises(
        InvalidRequestError,
        match=r"QUERY\[1\] has 9 tokens beside 12 visual tokens, together more than 20; shorten it",
    ):
        questions(8, 9).check_tokens(12)
    questions(9, max_tokens=None).check_tokens(12)


def test_logits_that_are_not_finite_are_a_failure_of_ours():
    with pytest.raises(GroundserveError, match="not finite"):
        ground_questions(
            FEATURES, questions(1), LengthGrounder(scale=np.nan), deadline=Deadline.after(1)
        )
