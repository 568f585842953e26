"""The answerer, and what the report makes of its answers."""

import json

import numpy as np
import pytest

from groundserve.errors import UnsupportedError
from groundserve.evaluation.report import ScoredQuestion
from tests.answer_cases import CHECKPOINTS
from train.digits import downstream
from train.digits.downstream import FrameFeatures, downstream_report


class ReadsFirstPixel:
    """A classifier of frames whose first pixel is the digit they show."""

    def __init__(self, features, *, seed):
        pass

    def shown(self, frames):
        return np.eye(10)[frames[:, 0, 0, 0]]


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Two videos of eight frames; the digit asked for is in the last two, others before."""
    videos = {
        "a.mp4": np.array([1, 1, 2, 2, 1, 1, 7, 7]),
        "b.mp4": np.array([3, 3, 3, 3, 3, 3, 8, 8]),
    }
    monkeypatch.setattr(downstream, "DigitClassifier", ReadsFirstPixel)
    monkeypatch.setattr(downstream, "FrameFeatures", lambda checkpoint: None)
    monkeypatch.setattr(
        downstream,
        "_sampled_frames",
        lambda workers, path, features: videos[path.name].reshape(-1, 1, 1, 1),
    )
    question = "Which digit comes right after the {}?"
    asked = {"a.mp4": question.format("two"), "b.mp4": question.format("three")}
    answers = {"a.mp4": "The seven.", "b.mp4": "The eight."}
    records = [
        {"video": video, "question": f"<image>\n{asked[video]}", "answer": answers[video]}
        for video in videos
    ]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    scored = [
        ScoredQuestion(
            video=video,
            type="order",
            question=asked[video],
            labels=np.arange(8) >= 6,
            frame_logits=np.arange(8, dtype=np.float32),
            pts_seconds=np.arange(8.0),
            duration_seconds=8.0,
        )
        for video in videos
    ]
    return path, scored


def test_report_compares_selected_with_uniform_frames(made_up):
    path, scored = made_up
    report = downstream_report(path, checkpoint="any", scored=scored, num_selected=2, seed=0)
    assert report["num_questions"] == 2
    assert report["accuracy"]["selected"]["value"] == 1.0
    # Uniform frames 2 and 6 of the first video show a named digit and the answer.
    assert report["accuracy"]["uniform"]["value"] == 1.0
    assert report["accuracy"]["all_frames"]["value"] == 0.5
    assert report["gain_over_uniform"]["value"] == 0.0


def test_a_checkpoint_that_answers_in_text_has_no_features_of_frames_to_classify():
    with pytest.raises(UnsupportedError, match="vtimellm answers in text"):
        FrameFeatures(CHECKPOINTS)
