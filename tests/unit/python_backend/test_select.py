from __future__ import annotations

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import DeadlineExceededError, InvalidRequestError
from groundserve.options import ScoreOptions
from python_backend.select import select_for_questions

SOON = Deadline.after(10**6)


def test_one_row_a_question():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]], np.float32)
    selection = select_for_questions(
        logits, np.array([10, 20, 30]), ScoreOptions(top_k=2), deadline=SOON
    )
    np.testing.assert_array_equal(selection.selected_frames, [[20, 30], [10, 30]])
    assert selection.frame_scores[0, 0] == 0.5


def test_no_question_is_refused():
    with pytest.raises(InvalidRequestError, match="at least one question, got 0"):
        select_for_questions(
            np.empty((0, 3), np.float32), np.arange(3), ScoreOptions(), deadline=SOON
        )


def test_time_that_runs_out_between_questions_ends_the_work(monkeypatch):
    rows_selected = []

    def select_one(row, *args, **kwargs):
        rows_selected.append(row[0])
        return np.array([0])

    class EndsAfterTwo(Deadline):
        def remaining_seconds(self):
            return 2 - len(rows_selected)

    monkeypatch.setattr("python_backend.select.select_frames", select_one)
    logits = np.arange(5, dtype=np.float32)[:, np.newaxis]
    with pytest.raises(DeadlineExceededError):
        select_for_questions(logits, np.arange(1), ScoreOptions(), deadline=EndsAfterTwo(0.0, 1.0))
    assert rows_selected == [0, 1]
