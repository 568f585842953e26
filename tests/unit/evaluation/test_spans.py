import numpy as np
import pytest

from groundserve.evaluation.spans import span_iou, top_span_iou

PTS = np.arange(6, dtype=np.float64)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param((0, 2), (0, 2), 1.0, id="same"),
        pytest.param((0, 2), (1, 3), 1 / 3, id="half"),
        pytest.param((0, 4), (1, 2), 1 / 4, id="inside"),
        pytest.param((0, 1), (1, 2), 0.0, id="touching"),
        pytest.param((0, 1), (5, 6), 0.0, id="apart"),
        pytest.param((3, 3), (3, 3), 0.0, id="empty"),
        pytest.param((0, 2), (1, 1), 0.0, id="one_empty"),
    ],
)
def test_span_iou(first, second, expected):
    assert span_iou(first, second) == pytest.approx(expected)
    assert span_iou(second, first) == pytest.approx(expected)


def test_the_span_with_the_best_frame_is_the_prediction():
    frame_logits = np.array([1, 1, -1, 2, -1, -1], np.float32)  # predicts 3 to 4 s
    labels = np.array([0, 0, 0, 1, 0, 1], np.bool_)
    assert top_span_iou(frame_logits, labels, PTS, duration_seconds=5.5) == 1.0


def test_top_span_iou():
    frame_logits = np.array([-1, 3, 2, 1, -1, 2], np.float32)  # predicts 1 to 4 s
    labels = np.array([0, 0, 1, 1, 1, 0], np.bool_)  # true from 2 to 5 s
    got = top_span_iou(frame_logits, labels, PTS, duration_seconds=6)
    assert got == pytest.approx(2 / 4)
