import json

import pytest

from groundserve.evaluation.grounding_records import UNTYPED, read_grounding_records

RECORD = {"video": "a/b.mp4", "question": "<image>\nWhen?", "frame_num": [2, 0], "clip_num": [0]}


def write(path, value):
    path.write_text(json.dumps(value), "utf-8")
    return path


def test_fields_that_evaluation_uses(tmp_path):
    first, second = read_grounding_records(
        write(tmp_path / "r.json", [RECORD, {**RECORD, "type": "motion", "frame_num": []}])
    )
    assert (first.number, first.video, first.question) == (0, "a/b.mp4", "When?")
    assert (first.positive_frames, first.type) == ((2, 0), UNTYPED)
    assert (second.number, second.positive_frames, second.type) == (1, (), "motion")


def test_labels_mark_sampled_frames(tmp_path):
    (record,) = read_grounding_records(write(tmp_path / "r.json", [RECORD]))
    assert record.labels(4).tolist() == [True, False, True, False]
    assert record.labels(3) is not None
    assert record.labels(2) is None


@pytest.mark.parametrize("indent", ["", "\n", " \n\n"])
def test_json_lines_are_read_as_a_list_is(indent, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(indent + (json.dumps(RECORD) + "\n") * 2, "utf-8")
    assert [record.number for record in read_grounding_records(path)] == [0, 1]
