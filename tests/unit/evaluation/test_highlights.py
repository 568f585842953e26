import json

import numpy as np
import pytest

from groundserve.errors import DeadlineExceededError, InvalidRequestError
from groundserve.evaluation.asking import ask_left
from groundserve.evaluation.highlights import (
    clip_scores,
    highlight_questions,
    make_highlight_report,
    read_highlight_answers,
)
from groundserve.evaluation.qvhighlights import GroundTruth, read_ground_truth
from groundserve.families.vtgllm.answer import read_highlights
from tests.support.reference import VTGLLM
from tests.unit.evaluation.activitynet.told import Told

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
VECTORS = RECORDED["functions"]["parse_highlights"]
TRUTH = [
    {
        "qid": 7,
        "query": "A man jumps.",
        "vid": "v_1.5",
        "duration": 20,
        "relevant_windows": [[10, 14]],
        "relevant_clip_ids": [5, 6],
        "saliency_scores": [[4, 4, 1], [2, 3, 1]],
    },
    {
        "qid": 8,
        "query": "a dog runs",
        "vid": "w",
        "duration": 9,
        "relevant_windows": [[0, 2]],
        "relevant_clip_ids": [0],
        "saliency_scores": [[4, 0, 0]],
    },
]


def write(path, *lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def truths(tmp_path):
    return read_ground_truth(write(tmp_path / "truth.jsonl", *TRUTH))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["answer"][:40])
def test_clips_score_what_the_reference_recorded(vector):
    told = zip(*read_highlights(vector["answer"]), strict=False)
    got = clip_scores(told, vector["duration"]).tolist()
    if isinstance(vector["clip_scores"], dict):  # its last second is past the clips: it stops
        assert vector["clip_scores"] == {"error": "IndexError"}
        assert got == [0.0, 4.0, 0.0, 0.0]
    else:
        assert got == vector["clip_scores"]


def read(path, truths):
    found, num_unread = read_highlight_answers(path, truths)
    return {query: scores.tolist() for query, scores in found.items()}, num_unread


def test_lines_of_ask(tmp_path, truths):
    moment = {"start": 12.0, "end": 12.0, "score": 4.1, "text": ""}
    line = {
        "video": "clips/v_1.5.mp4",
        "answers": [
            {"task": "chat", "query": "Who?", "moments": []},
            {"task": "highlights", "query": " a man jumps", "moments": [moment]},
        ],
    }
    path = write(tmp_path / "a.jsonl", line)
    assert read(path, truths) == ({7: [0.0] * 5 + [4.1] + [0.0] * 4}, 0)
    report = make_highlight_report(read_highlight_answers(path, truths)[0], truths)
    assert report.num_unanswered == 1
    assert report.as_dict()["highlight_map_very_good"]["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"pred_saliency_scores": [1]}, "qid is missing"),
        (
            {"video": "w.mp4", "answers": [{"task": "highlights", "query": "A man jumps."}]},
            "no query about w reads",
        ),
        ({"video": "w.mp4", "answers": []}, "holds no answer of the task highlights"),
    ],
)
def test_wrong_entries(tmp_path, truths, entry, message):
    with pytest.raises(InvalidRequestError, match=message):
        read_highlight_answers(write(tmp_path / "a.jsonl", entry), truths)


def test_what_cannot_be_asked_or_was_cut_is_not_kept(tmp_path, truths):
    path, videos = tmp_path / "mine.jsonl", {"w": tmp_path / "w.mp4"}
    given = {"model": "m", "max_new_tokens": 9}
    with pytest.raises(DeadlineExceededError):
        ask_left(Told("deadline"), highlight_questions(truths), videos, path, **given)
    assert path.read_text("utf-8") == ""
    blank = {9: GroundTruth(video="w", windows=np.zeros((1, 2)), saliency=None, query=" . ")}
    with pytest.raises(InvalidRequestError, match="qid 9 of the ground truth has no words"):
        ask_left(Told(), highlight_questions(blank), videos, path, **given)
