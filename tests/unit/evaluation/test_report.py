import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.report import ScoredQuestion, make_report, measure_question


def question(frame_logits, labels, *, video="a.mp4", kind="semantic", text="?"):
    return ScoredQuestion(
        video=video,
        type=kind,
        question=text,
        labels=np.array(labels, np.float32),
        frame_logits=np.array(frame_logits, np.float32),
        pts_seconds=np.arange(len(labels), dtype=np.float64),
        duration_seconds=float(len(labels)),
    )


def test_every_figure_of_one_question():
    # Ranked: frames 1, 3, 0, 2. Above 0: frames 1 and 3, two spans; the first has the best frame.
    got = measure_question(question([-1, 3, -2, 2], [0, 1, 1, 0]), top_k=2)
    assert got["base_rate"] == 0.5
    assert got["frame_ap"] == pytest.approx((1 / 1 + 2 / 4) / 2)
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert got["random_ap"] == pytest.approx((harmonic + (4 - harmonic) / 3) / 4)
    assert got["recall_at_k"] == 0.5
    assert got["possible_recall"] == 1.0
    assert got["uniform_recall"] == 0.5  # frames 1 and 3
    assert got["random_recall"] == 0.5
    assert got["recall_over_uniform"] == 0.0
    assert got["hit_at_1"] == 1.0
    assert got["uniform_hit_at_1"] == 1.0  # frame 2
    assert got["miou"] == 0.5  # 1 to 2 s of 1 to 3 s
    assert [got[f"r1_at_0{at}"] for at in (3, 5, 7)] == [1.0, 1.0, 0.0]


QUESTIONS = [
    question([2, 0], [1, 0], video="a"),
    question([0, 2], [1, 0], video="b"),
    question([1, 0], [0, 0], video="a"),
    question([3, 0], [1, 0], video="b", kind="motion"),
    question([-1, -2], [0, 0], video="b", kind="order"),
]


def test_figures_over_all_and_by_type():
    report = make_report(QUESTIONS, top_k=1)
    assert list(report.by_type) == ["motion", "order", "semantic"]
    overall, semantic = report.overall, report.by_type["semantic"]
    assert (overall.num_present, overall.num_absent) == (3, 2)
    assert overall.figures["frame_ap"].value == pytest.approx((1 + 0.5 + 1) / 3)
    assert (semantic.num_present, semantic.num_absent) == (2, 1)
    assert semantic.figures["hit_at_1"].value == 0.5
    assert semantic.figures["hit_at_1"].num_videos == 2


def test_absent_questions_enter_the_auc_only():
    report = make_report(QUESTIONS, top_k=1)
    # Best logits 2, 2, 3 of present against 1, -1 of absent questions.
    assert report.overall.absent_auc.value == 1.0
    assert report.overall.absent_auc.num_questions == 5
    assert report.by_type["motion"].absent_auc is None
    assert report.by_type["order"].absent_auc is None
    assert report.by_type["order"].figures == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, np.float32)}, "same shape"),
        ({"labels": [1, 0]}, "labels must be a NumPy array, got a list"),
        ({"frame_logits": np.array([np.nan, 0], np.float32)}, r"of a.mp4 must be finite"),
    ],
)
def test_a_malformed_question_is_refused(change, message):
    with pytest.raises(InvalidRequestError, match=message):
        ScoredQuestion(**{**vars(question([2, 0], [1, 0])), **change})
