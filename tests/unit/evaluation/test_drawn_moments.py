"""Answers about drawn videos, and what answers without looking would reach."""

import pytest

from groundserve.evaluation.drawn_moments import AskedMoment, make_drawn_report


def asked(video: str, kind: str, told, *, other=None, strange=None) -> AskedMoment:
    return AskedMoment(
        video=video,
        type=kind,
        duration_seconds=48.0,
        window=(10.0, 20.0),
        told=told,
        of_other_video=other,
        of_other_question=strange,
    )


MOMENTS = [
    asked("a", "semantic", (10.0, 20.0), other=(10.0, 16.0)),
    asked("a", "order", (10.0, 14.0), strange=(10.0, 20.0)),
    asked("b", "semantic", (14.0, 24.0)),  # 6 of 14 seconds
    asked("b", "order", None),
]


def test_figures_are_shares_of_questions_by_type_and_over_all():
    report = make_drawn_report(MOMENTS, [(10.0, 20.0)], seed=0)
    assert report.num_unread == 1
    assert report.all["R1@0.3"] == 0.75
    assert report.all["R1@0.5"] == 0.25
    assert report.by_type["semantic"]["mIoU"] == pytest.approx((1 + 6 / 14) / 2)
    assert report.by_type["order"]["R1@0.3"] == 0.5
    assert report.estimates["all"]["R1@0.5"].num_videos == 2


def test_floors_are_of_training_spans_of_another_video_and_of_other_questions():
    windows = [(10.0, 20.0), (10.0, 20.0), (0.0, 10.0)]
    floors = make_drawn_report(MOMENTS, windows, seed=0).floors
    assert floors["frequent_span"]["R1@0.7"] == 1
    # Ten seconds anywhere in 48 share a third with the truth where they start within five of it.
    assert floors["random_span"]["R1@0.3"] == pytest.approx(2 * 70 / 13 / 38, abs=0.1)
    assert floors["other_video"]["R1@0.5"] == 0.25
    assert floors["shuffled_questions"]["R1@0.7"] == 0.25
