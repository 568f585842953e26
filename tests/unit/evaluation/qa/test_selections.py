"""Selected frames: scored, or read from records."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.selections import RecordedSelector, ScoringSelector
from tests.unit.evaluation.qa.questions import question

QUESTIONS = [question("7", number=0, text="What?"), question("8", number=1, text="Who?")]
VIDEO = Path("v.mp4")


class Scorer:
    """Selects as many frames as a question has letters."""

    def __init__(self):
        self.calls = []

    def score(self, video, queries, options):
        self.calls.append((video, list(queries), options.top_k, options.sampling))
        answers = [SimpleNamespace(selected_frames=np.arange(len(query))) for query in queries]
        return SimpleNamespace(queries=answers, engine={"id": "e"})


def test_frames_are_scored_for_the_whole_prompt_or_for_the_question():
    scorer = Scorer()
    prompts = {"7": "What? A", "8": "What? A"}
    selector = ScoringSelector(scorer, QUESTIONS, num_selected=5, asked="prompt")
    selection = selector.select(VIDEO, prompts)
    assert scorer.calls == [(VIDEO, ["What? A"], 5, "eval")]
    assert selection.frame_indices == dict.fromkeys(("7", "8"), tuple(range(7)))
    assert selection.engine == {"id": "e"}
    selector = ScoringSelector(scorer, QUESTIONS, num_selected=5, asked="question")
    selection = selector.select(VIDEO, prompts)
    assert scorer.calls[1][1] == ["What?", "Who?"]
    assert selection.frame_indices["8"] == (0, 1, 2, 3)


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_records_are_found_by_place_best_first(tmp_path):
    path = write(
        tmp_path / "r.jsonl",
        {"doc_id": 0, "index": [9, 2, 5, 1], "contexts": "Select. What? A"},
        {"doc_id": 1, "index": [3, 1]},
        {"doc_id": 1, "index": [0, 2]},
    )
    selector = RecordedSelector(path, QUESTIONS, num_selected=3)
    selection = selector.select(VIDEO, {"7": "", "8": ""})
    assert selection.frame_indices == {"7": (2, 5, 9), "8": (1, 3)}
    assert selection.engine is None


def test_records_are_found_by_id_as_a_batch_has_them(tmp_path):
    """The id 8 is no place in the file; 1, which is one, is asked something else there."""
    path = write(
        tmp_path / "records.jsonl",
        {"doc_id": "7", "index": [4], "contexts": "What?"},
        {"doc_id": 8, "index": [6], "contexts": "Who?"},
        {"doc_id": 1, "index": [5], "contexts": "another question"},
    )
    selector = RecordedSelector(path, QUESTIONS, num_selected=3)
    assert selector.select(VIDEO, {"7": "", "8": ""}).frame_indices == {"7": (4,), "8": (6,)}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([1, 2, 3, 4], "index has 4 frames in time order, of which the first 3"),
        ([], "index must hold different ordinals"),
        ([2, 2], "index must hold different ordinals"),
    ],
)
def test_an_index_that_is_no_selection(tmp_path, index, message):
    path = write(tmp_path / "r.jsonl", {"doc_id": 0, "index": index})
    with pytest.raises(InvalidRequestError, match=f"line 1: {message}"):
        RecordedSelector(path, QUESTIONS, num_selected=3)


def test_a_question_without_a_record(tmp_path):
    path = write(tmp_path / "r.jsonl", {"doc_id": 0, "index": [1]})
    with pytest.raises(InvalidRequestError, match=r"no record of 1 of 2 questions, .* id \"8\""):
        RecordedSelector(path, QUESTIONS, num_selected=3)
