"""Predictions for QVHighlights: read by our evaluator, and by the rules of the public one."""

import json
from pathlib import Path

import numpy as np
import pytest

from groundserve.evaluation.qvhighlights import read_predictions
from groundserve.exports import export
from groundserve.exports.formats import clip_scores
from groundserve.exports.rows import ScoredFrames
from tests.unit.exports.made import BIKES, FAILED, TALK, write_batch

GOLDEN = Path(__file__).parent / "goldens" / "qvhighlights.jsonl"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "predictions.jsonl"


def scored(pts, scores, *, duration, spans=()):
    return ScoredFrames(
        num_source_frames=1000,
        fps=30.0,
        duration_seconds=duration,
        frame_indices=np.arange(len(pts)),
        pts_seconds=np.array(pts, np.float64),
        frame_logits=np.array(scores, np.float32),
        frame_scores=np.array(scores, np.float64),
        selected_frames=np.zeros(1, np.int64),
        spans=list(spans),
    )


def test_the_file_is_as_by_hand(tmp_path, out):
    export(write_batch(tmp_path / "run", BIKES, TALK), out, "qvhighlights")
    assert out.read_bytes() == GOLDEN.read_bytes()


def test_no_list_of_windows_is_empty(tmp_path, out):
    """The public evaluator takes `[0]` of each, and its mAP leaves a query without any out."""
    low = BIKES | {"spans": [], "frame_scores": [0.25, 0.375, 0.375, 0.125]}
    exported = export(write_batch(tmp_path / "run", low, TALK), out, "qvhighlights")
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    first_windows = {line["qid"]: line["pred_relevant_windows"][0] for line in lines}
    # The stretch of the two equal best frames.
    assert first_windows == {2: [4.0, 5.0, 0.9375], 7: [1.0, 3.0, 0.375]}
    assert exported.num_below_threshold == 1


@pytest.mark.parametrize(
    ("pts", "scores", "duration", "expected"),
    [
        pytest.param([0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4], 4.0, [0.2, 0.4], id="two frames a clip"),
        # A frame at 1.999 s belongs to the first clip, though it stands until 3.0 s.
        pytest.param([0, 1.999, 3], [0.1, 0.9, 0.3], 4.0, [0.9, 0.3], id="shown in the clip"),
        pytest.param([2.5], [0.5], 4.0, [0.5, 0.5], id="a first frame that is late"),
        pytest.param([0, 4.5], [0.1, 0.9], 4.6, [0.1, 0.1, 0.9], id="a last clip cut short"),
    ],
)
def test_each_clip_has_the_score_of_its_best_frame(pts, scores, duration, expected):
    assert clip_scores(scored(pts, scores, duration=duration)).tolist() == expected


def test_ids_of_text_stay(tmp_path, out):
    """Own data sets may have them; the benchmark's are numbers, and evaluators compare all ids."""
    run = write_batch(tmp_path / "run", BIKES | {"id": "bikes"}, FAILED)
    assert export(run, out, "qvhighlights").failures == {"Missing": 1}
    assert list(read_predictions(out)) == ["bikes"]
