import json

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.report import ScoredQuestion, borrow_questions, make_control_report

OWN = {f"video {v}": [f"question {v}.{i}" for i in range(1 + v % 4)] for v in range(20)}


@pytest.mark.parametrize("seed", range(5))
def test_no_video_keeps_its_questions_and_each_lends_to_one(seed):
    borrowed = borrow_questions(OWN, seed=seed)
    assert set(borrowed) == set(OWN)
    lender_of = {}
    for video, texts in borrowed.items():
        assert len(texts) == len(OWN[video])
        (lender,) = {name for name in OWN for text in texts if text in OWN[name]}
        lender_of[video] = lender
    assert all(video != lender for video, lender in lender_of.items())
    assert sorted(lender_of.values()) == sorted(OWN)


def test_a_question_that_reads_differently_is_preferred():
    borrowed = borrow_questions({"a": ["same", "own"], "b": ["same", "other"]}, seed=0)
    assert borrowed["a"][0] == "other"
    assert borrow_questions({"a": ["same"], "b": ["same"]}, seed=0)["a"] == ["same"]


def scored(frame_logits, *, text, video, kind="semantic"):
    return ScoredQuestion(
        video=video,
        type=kind,
        question=text,
        labels=np.array([1, 0], np.float32),
        frame_logits=np.array(frame_logits, np.float32),
        pts_seconds=np.arange(2.0),
        duration_seconds=2.0,
    )


def test_what_the_own_question_adds():
    own = [scored([1, 0], text="x", video="a"), scored([1, 0], text="y", video="b", kind="order")]
    other = [scored([0, 1], text="y", video="a"), scored([1, 0], text="y", video="b", kind="order")]
    report = make_control_report(own, other, seed=3)
    assert report.num_same_text == 1
    assert report.overall.shuffled_ap.value == pytest.approx((0.5 + 1) / 2)
    assert report.overall.ap_over_shuffled.value == pytest.approx(0.25)
    assert report.by_type["semantic"].ap_over_shuffled.value == pytest.approx(0.5)
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert value["seed"] == 3
    assert value["by_type"]["order"]["shuffled_ap"]["value"] == 1.0


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ([scored([1, 0], text="x", video="a")], [], "got 1 and 0"),
        (
            [scored([1, 0], text="x", video="a")],
            [scored([1, 0], text="x", video="b")],
            "video and type",
        ),
    ],
)
def test_stand_ins_must_belong_to_the_questions(own, other, message):
    with pytest.raises(InvalidRequestError, match=message):
        make_control_report(own, other)
