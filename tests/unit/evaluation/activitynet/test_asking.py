import json
from pathlib import Path

import pytest

from groundserve.errors import DeadlineExceededError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answer_log import ask_annotated, read_answers
from groundserve.evaluation.activitynet.answers import Event
from tests.unit.evaluation.activitynet.told import DURATION, Told

ANNOTATIONS = {
    "v": Annotation(duration_seconds=20.0, windows=((2, 4), (4, 8)), sentences=("A dog.", "Runs")),
    "w": Annotation(duration_seconds=10.0, windows=((0, 9),), sentences=("All",)),
}
VIDEOS = {"v": Path("clips/v.mp4"), "w": Path("clips/w.mkv")}


def ask(path, answerer=None, *, task="grounding", annotations=ANNOTATIONS, **others):
    answerer = answerer or Told()
    given = {"model": "m", **others}
    ask_annotated(answerer, annotations, VIDEOS, path, task=task, **given)
    return answerer


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_moments_are_asked_together_and_kept_as_the_reference_does(tmp_path):
    path = tmp_path / "log.jsonl"
    seen = []
    answerer = ask(path, on_video=lambda number, total: seen.append((number, total)))
    assert [(video, queries) for video, queries, _ in answerer.asked] == [
        (VIDEOS["v"], ["A dog.", "Runs"]),
        (VIDEOS["w"], ["All"]),
    ]
    assert {(one.task, one.raw, one.temperature) for *_, one in answerer.asked} == {
        ("moment", False, 0.0)
    }
    assert {one.max_new_tokens for *_, one in answerer.asked} == {1024}
    assert seen == [(1, 2), (2, 2)]
    first, _, last = lines(path)
    assert first == {
        "video_id": "v",
        "task": "grounding",
        "query_id": 0,
        "answer": "From 10 to 20, A dog.",
        "info": {"sentence_id": 0, "iou": 1.0},
        "duration_seconds": DURATION,
        "moments": [{"start": DURATION / 10, "end": DURATION / 5, "score": None, "text": "Told"}],
        "model": "m",
    }
    assert (last["info"], last["moments"]) == ({"sentence_id": 0, "iou": 0.0}, [])
    groundings = read_answers(path, ANNOTATIONS, task="grounding").groundings
    event = Event(start_percent=10, end_percent=20, sentence="Told")
    assert [one.event for one in groundings] == [event, event, None]


def test_nothing_is_asked_twice(tmp_path):
    path = tmp_path / "log.jsonl"
    ask(path)
    whole = path.read_bytes()
    # All of the second answer but its end was written, and nothing of the third.
    path.write_bytes(whole[: whole.index(b"Runs") + 3])
    answerer = ask(path)
    assert [queries for _, queries, _ in answerer.asked] == [["Runs"], ["All"]]
    assert path.read_bytes() == whole
    assert ask(path).asked == []
    assert len(ask(path, task="captioning").asked) == 2


def test_an_answer_that_time_ended_is_not_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    with pytest.raises(DeadlineExceededError, match=r"clips/v.mp4: time ran out"):
        ask(path, Told(stop_reason="deadline"))
    assert path.read_bytes() == b""
