import json

import pyarrow
import pyarrow.parquet
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation, read_annotations
from groundserve.evaluation.activitynet.answer_log import read_answers
from groundserve.evaluation.activitynet.answers import Event, read_moments
from tests.unit.evaluation.activitynet.recorded import ANNOTATION, LOG

ANNOTATIONS = {
    "v": Annotation(
        duration_seconds=20.0, windows=((0, 10), (10, 20)), sentences=("A dog.", " It Runs ")
    )
}
GROUNDING = {
    "video_id": "v",
    "task": "grounding",
    "query_id": 0,
    "answer": "From 10 to 20.",
    "info": {"sentence_id": 1, "iou": 0.0},
}
CAPTIONING = {
    "video_id": "v",
    "task": "captioning",
    "query_id": 0,
    "answer": '[{"event": "A dog.", "timestamps": "from 10 to 20"}]',
}


def write(path, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), "utf-8")
    return path


def asked(*answers, **others):
    return {"video": "clips/v.mp4", "duration_seconds": 30.0, "answers": list(answers), **others}


def answer(task, query, *moments):
    told = [{"start": s, "end": e, "score": None, "text": t} for s, e, t in moments]
    return {"task": task, "query": query, "moments": told}


def test_recorded_log():
    annotations = read_annotations(ANNOTATION)
    answers = read_answers(LOG, annotations, task="grounding")
    assert [(one.video, one.number) for one in answers.groundings] == [
        *(("clip_a", number) for number in (0, 1, 2)),
        *(("clip_b", number) for number in (0, 1)),
        *(("clip_c", 0), ("clip_c", 0)),  # asked twice, and counted twice
    ]
    assert answers.groundings[3].event == Event(start_percent=0, end_percent=41)
    assert answers.groundings[4].event is None
    captions = read_answers(LOG, annotations, task="captioning").captions
    assert {video: events and len(events) for video, events in captions.items()} == {
        "clip_b": 3,  # the later answer's
        "clip_a": 4,
        "clip_c": None,
    }


@pytest.mark.parametrize("seconds", [17.56, 1 / 3])
def test_seconds_of_whole_percent_give_the_percent_back(seconds):
    """`ask` multiplies, and figures are compared with thresholds at whole percent."""
    for first in range(100):
        moments = [{"start": first * seconds / 100, "end": (first + 1) * seconds / 100, "text": ""}]
        assert read_moments(moments, seconds) == (
            Event(start_percent=first, end_percent=first + 1),
        )


def test_lines_of_ask_are_found_by_video_and_sentence(tmp_path):
    path = write(
        tmp_path / "answers.jsonl",
        asked(
            answer("moment", "it runs.", (3.0, 6.0, "")),
            answer("moment", "A dog."),
            answer("chat", "hello"),
        ),
        "",
        asked(answer("captions", "", (0.0, 15.0, "A cat."), (15.0, 30.0, "It sits."))),
        GROUNDING,
    )
    found = read_answers(path, ANNOTATIONS, task="grounding").groundings
    assert [(one.number, one.event, one.stated_iou) for one in found] == [
        (1, Event(start_percent=10, end_percent=20), None),
        (0, None, None),
        (1, Event(start_percent=10, end_percent=20), 0.0),
    ]
    assert read_answers(path, ANNOTATIONS, task="captioning").captions == {
        "v": (
            Event(start_percent=0, end_percent=50, sentence="A cat."),
            Event(start_percent=50, end_percent=100, sentence="It sits."),
        )
    }


def write_batch(folder, *rows):
    """Of a batch's columns those that are read."""
    moment = pyarrow.struct(
        [(name, pyarrow.float64()) for name in ("start_seconds", "end_seconds", "score")]
    )
    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in ("video", "query", "options", "error_kind")),
            ("duration_seconds", pyarrow.float64()),
            ("moments", pyarrow.list_(pyarrow.struct([*moment, ("text", pyarrow.string())]))),
        ]
    )
    table = pyarrow.Table.from_pylist([{"video": "a/v.mp4", **row} for row in rows], schema=schema)
    pyarrow.parquet.write_table(table, folder / "part-0.parquet")
    return folder


def test_rows_of_a_batch(tmp_path):
    moment = {"start_seconds": 3.0, "end_seconds": 6.0, "text": "Told"}
    done = {"duration_seconds": 30.0, "options": '{"task": "moment"}', "query": "A dog."}
    folder = write_batch(
        tmp_path,
        {**done, "moments": [moment]},
        {**done, "moments": []},
        {"query": "it runs", "options": '{"task": "moment"}', "error_kind": "MediaError"},
        {**done, "query": "", "options": '{"task": "captions"}', "moments": [moment]},
    )
    event = Event(start_percent=10, end_percent=20, sentence="Told")
    found = read_answers(folder, ANNOTATIONS, task="grounding").groundings
    assert [(one.number, one.event) for one in found] == [(0, event), (0, None)]
    assert read_answers(folder, ANNOTATIONS, task="captioning").captions == {"v": (event,)}


def test_folders_without_answers_are_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="not the folder of a batch"):
        read_answers(tmp_path, ANNOTATIONS, task="grounding")
    write_batch(tmp_path, {"duration_seconds": 1.0, "options": '{"top_k": 1}', "query": "A dog."})
    with pytest.raises(InvalidRequestError, match="row 1: the row has scores of frames"):
        read_answers(tmp_path, ANNOTATIONS, task="grounding")
    pyarrow.parquet.write_table(pyarrow.table({"video": ["v"]}), tmp_path / "part-0.parquet")
    with pytest.raises(InvalidRequestError, match="it has no column query"):
        read_answers(tmp_path, ANNOTATIONS, task="grounding")
    (tmp_path / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidRequestError, match=r"cannot read .*part-0\.parquet"):
        read_answers(tmp_path, ANNOTATIONS, task="grounding")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"video_id"', "line 1: not JSON; was it cut short", id="cut_short"),
        pytest.param({**GROUNDING, "task": "chat"}, 'task of .* got "v" and "chat"', id="task"),
        pytest.param({**GROUNDING, "video_id": "w"}, '"w" is not annotated', id="another_video"),
        pytest.param(
            {**GROUNDING, "info": {"sentence_id": 2}}, "below the 2 sentences", id="sentence"
        ),
        pytest.param({**GROUNDING, "moments": []}, "duration_seconds must be", id="no_duration"),
        pytest.param(asked(answer("moment", "a cat")), "no sentence of v reads", id="question"),
        pytest.param(CAPTIONING, "no answer of the task grounding", id="the_other_task"),
    ],
)
def test_malformed_lines_are_refused(tmp_path, line, message):
    with pytest.raises(InvalidRequestError, match=message):
        read_answers(write(tmp_path / "a", line), ANNOTATIONS, task="grounding")
