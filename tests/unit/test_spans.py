import numpy as np

from groundserve.spans import Span, find_spans

PTS = np.array([0.0, 1.0, 2.0, 3.0, 4.0])


def spans(scores, **kwargs):
    scores = np.array(scores, np.float32)
    return find_spans(scores, PTS[: len(scores)], duration_seconds=4.5, **kwargs)


def test_runs_become_spans_that_end_at_the_next_frame():
    assert spans([0.0, 0.75, 0.5, 0.0, 1.0]) == [Span(1.0, 3.0, 0.75), Span(4.0, 4.5, 1.0)]


def test_a_score_equal_to_the_threshold_belongs():
    assert spans([0.5, 0.25]) == [Span(0.0, 1.0, 0.5)]


def test_gaps_up_to_the_limit_are_joined():
    assert spans([1, 0, 1, 0, 1], span_gap_seconds=1.0) == [Span(0.0, 4.5, 1.0)]
    assert len(spans([1, 0, 1, 0, 1], span_gap_seconds=0.9)) == 3


def test_no_frame_above_the_threshold_gives_no_span():
    assert spans([0.1, 0.2]) == []


def test_a_duration_before_the_last_frame_never_gives_a_negative_span():
    got = find_spans(np.ones(1, np.float32), np.array([5.0]), duration_seconds=1.0)
    assert got == [Span(5.0, 5.0, 1.0)]
