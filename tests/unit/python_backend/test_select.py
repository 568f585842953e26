from __future__ import annotations

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.options import ScoreOptions
from python_backend.select import select_frames


def test_one_row_a_question():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]], np.float32)
    selection = select_frames(logits, np.array([10, 20, 30]), ScoreOptions(top_k=2))
    np.testing.assert_array_equal(selection.selected_frames, [[20, 30], [10, 30]])
    assert selection.frame_scores[0, 0] == 0.5


def test_no_question_is_refused():
    with pytest.raises(InvalidRequestError, match="at least one question, got 0"):
        select_frames(np.empty((0, 3), np.float32), np.arange(3), ScoreOptions())
