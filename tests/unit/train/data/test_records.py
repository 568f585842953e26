import json
import logging

import pytest

from groundserve.data_record import Message, parse_record
from groundserve.errors import InvalidRequestError
from tests.unit.train.data.samples import conversation, question
from train.data.records import MalformedRecord, read_records

TARGETS = {"num": 3, "frames": [[0, 2], []]}


@pytest.fixture
def write(tmp_path):
    def write(value):
        path = tmp_path / "records.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


def grounding(**fields):
    return parse_record({"video": "a.mp4", "frame_num": [], **fields}, name="r", is_grounding=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("What?", "What?", id="no_prefix"),
        pytest.param("<image>\nWhat?\n", "What?\n", id="placeholder_alone_is_removed"),
        pytest.param("Is <image>\n it?", "Is  it?", id="not_in_front"),
    ],
)
def test_the_placeholder_of_a_question_is_removed(text, expected):
    assert grounding(question=text).messages[0].text == expected
    assert grounding(**conversation(text, "A cat.")).messages[0].text == expected


@pytest.mark.parametrize("is_grounding", [False, True])
def test_one_message_from_gpt_at_the_beginning_is_left_out(is_grounding):
    fields = {"video": "a.mp4", "frame_num": [], **conversation("Who?", "I.")}
    fields["conversations"].insert(0, {"from": "gpt", "value": "Hello."})
    messages = parse_record(fields, name="r", is_grounding=is_grounding).messages
    assert messages[0] == Message("user", "Who?")


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        pytest.param([], "a record must be an object, got list", id="not_an_object"),
        pytest.param({"image": "a.png"}, "video is missing", id="image"),
        pytest.param({"video": "a", "image": "b"}, "not both", id="both"),
        pytest.param({"video": "b/../../a.mp4"}, "below the media root", id="parent"),
        pytest.param({"video": "a.mp4"}, "question is missing; a conv", id="no_question"),
        pytest.param(question("a", frame_num=[-1]), "frame_num must be a list", id="negative"),
        pytest.param(
            {"video": "a", "frame_num": [], **conversation("a", "b", "c", "d")},
            "must have two messages",
            id="long_conversation",
        ),
        pytest.param(
            {"video": "a", "frame_num": [], **conversation("<image>\n", "What?")},
            "the message from human in conversations, .* must not be empty",
            id="empty_question",
        ),
    ],
)
def test_grounding_record_fails(fields, rule):
    with pytest.raises(InvalidRequestError, match=rule):
        parse_record(fields, name="r", is_grounding=True)


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        pytest.param(None, "must be a list of at least two", id="missing"),
        pytest.param([{"from": "human", "value": "a"}], "at least two .* got 1", id="one"),
        pytest.param([{"from": "gpt", "value": "a"}] * 3, 'must be from "human"', id="gpt_twice"),
        pytest.param(
            [{"from": "human", "value": "a\ud83d"}] * 2,
            r"must be Unicode text, got '\\ud83d'",
            id="half",
        ),
    ],
)
def test_conversation_record_fails(messages, rule):
    with pytest.raises(InvalidRequestError, match=rule):
        parse_record({"conversations": messages}, name="r", is_grounding=False)


def test_clip_num_does_not_stand_for_frame_num():
    fields = {"video": "a.mp4", "question": "What?", "clip_num": [29]}
    with pytest.raises(InvalidRequestError, match=r"give the relevant frames, .* as frame_num"):
        parse_record(fields, name="r", is_grounding=True)


def test_read_records_keeps_malformed_entries_in_place(write, caplog):
    path = write([question("a"), question("b", frame_num=None), {"id": "x"}, question("c", id=7)])
    file = read_records(path, stage="grounding")
    names = [record.name for record in file.records]
    assert names == ["#0", "#1", "x", "7"]
    malformed = [record for record in file.records if isinstance(record, MalformedRecord)]
    assert [(record.name, record.path) for record in malformed] == [("#1", "b"), ("x", None)]
    assert "2 of 4 records cannot be used; first: record #1: frame_num must be" in caplog.text


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        pytest.param("{", "records.json must be JSON: ", id="not_json"),
        pytest.param({"a": 1}, "must be a JSON list of at least one record", id="object"),
        pytest.param([], "at least one record, got an empty list", id="empty"),
        pytest.param(
            '{"video": "a.mp4"}\n{"video": "b.mp4"}\n',
            r"must be one JSON list, this is JSON lines, .* python -c 'import json.*records.json",
            id="json_lines",
        ),
    ],
)
def test_read_records_fails(write, value, rule):
    with pytest.raises(InvalidRequestError, match=rule):
        read_records(write(value), stage="grounding")


def test_records_agree_on_the_number_of_auxiliary_targets(write):
    with_targets = question("a", frame_targets=TARGETS)
    assert read_records(write([question("a")]), stage="grounding").num_auxiliary == 0
    assert read_records(write([with_targets]), stage="grounding").num_auxiliary == 3
    with pytest.raises(InvalidRequestError, match=r"or none, got \[0, 3\]"):
        read_records(write([with_targets, question("a")]), stage="grounding")
    other = question("a", frame_targets={"num": 4, "frames": []})
    with pytest.raises(InvalidRequestError, match=r"or none, got \[3, 4\]"):
        read_records(write([with_targets, other]), stage="grounding")


@pytest.mark.parametrize(
    ("pairs", "is_suspicious"),
    [
        pytest.param([([145], [29]), ([5, 6, 9], [1])], False, id="as_published"),
        pytest.param([([29], [29]), ([1], [1]), ([0], [0])], True, id="clips_for_frames"),
        pytest.param([([145], [29]), ([5], [1]), ([8], [3])], False, id="one_wrong_label"),
    ],
)
def test_clip_ordinals_for_frames_are_noticed(write, caplog, pairs, is_suspicious):
    caplog.set_level(logging.WARNING)
    records = [question("a", frame_num=frames, clip_num=clips) for frames, clips in pairs]
    read_records(write(records), stage="grounding")
    assert ("must count frames at 1 per second, not clips" in caplog.text) == is_suspicious
