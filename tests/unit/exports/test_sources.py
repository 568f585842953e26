"""The three places that scored questions are read from, and what is wrong with them."""

import json

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.exports import ExportOptions, export
from groundserve.exports.sources import open_source
from tests.unit.exports.made import (
    BIKES,
    FAILED,
    TALK,
    answer_of,
    write_batch,
    write_records,
    write_shard,
)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "frames.jsonl"


def test_records_are_ranked_as_they_stand(tmp_path):
    """Their scores are rounded, so the order of `index` alone counts."""
    path = tmp_path / "records.jsonl"
    path.write_text(
        '{"index": [9, 3, 6], "logits": [1.0, 1.0, 1.0], "num_frames": 1, "contexts": "When?", '
        '"video_path": "a.mp4", "doc_id": "12"}\n'
    )
    (row,) = open_source(path).rows()
    assert (row.id, row.ranking.tolist(), row.scored) == (12, [9, 3, 6], None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"doc_id": 1, "index": [1, 2]}', "line 2: not a ranking: it has no logits"),
        ('{"doc_id": 1, "index": [2, 2], "logits": [1, 1]}', "line 2: index must hold frames"),
    ],
)
def test_a_line_that_is_no_record_is_refused(line, message, tmp_path, out):
    path = write_records(tmp_path / "records.jsonl", BIKES)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidRequestError, match=message):
        export(path, out, "lmms-eval")
    assert not out.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frame_logits": [1.0]}, "of one length >= 1, got 4, 4, 1, 4"),
        ({"frame_logits": [1.0, float("nan"), 0.0, 0.0]}, "must be finite"),
        ({"selected_frames": [26]}, "selected_frames must be frames that were scored"),
        ({"pts_seconds": [0.0, 2.0, 1.0, 3.0]}, "pts_seconds must not decrease"),
        (
            {"spans": [BIKES["spans"][0] | {"score": None}]},
            "not a question as groundserve",
        ),
        ({"frame_logits": None, "answer": "from 0 to 3"}, "a family that answers in text"),
    ],
)
def test_a_row_that_does_not_hold_together_is_refused(changed, message, tmp_path, out):
    run = write_batch(tmp_path / "run", TALK, BIKES | changed)
    with pytest.raises(InvalidRequestError, match=rf"0001\.parquet, row 1: .*{message}"):
        export(run, out, "lmms-eval")
    assert not out.exists()


@pytest.mark.parametrize(
    "answer",
    [
        {"queries": [{"query": "When?"}]},
        answer_of(BIKES | {"selected_frames": [25.5]}),
        answer_of(BIKES | {"spans": [{"start": "nan", "end": 1.0, "score": 1.0}]}),
    ],
)
def test_an_answer_of_another_program_is_refused(answer, tmp_path, out):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(answer))
    with pytest.raises(InvalidRequestError, match="question 1: not a question as"):
        export(path, out, "lmms-eval", ExportOptions(doc_id=0))


def test_half_a_shard_is_refused_by_name(tmp_path, out):
    run = write_batch(tmp_path / "run", BIKES, TALK)
    shard = next(run.rglob("*1.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InvalidRequestError, match=r"cannot read .*0001\.parquet: "):
        export(run, out, "lmms-eval")
    assert not out.exists()


def test_a_run_that_has_not_ended_is_said(tmp_path, out):
    run = write_batch(tmp_path / "run", BIKES)
    assert not export(run, out, "lmms-eval").is_unfinished  # some rows, copied elsewhere
    (run / "run.json").write_text("{}")
    assert export(run, out, "lmms-eval", replace=True).is_unfinished
    (run / "records.jsonl").write_text("")
    assert not export(run, out, "lmms-eval", replace=True).is_unfinished


def test_nothing_to_export_is_an_error(tmp_path, out):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidRequestError, match=r"holds no \*\.parquet"):
        export(empty, out, "lmms-eval")
    write_shard(empty / "scores" / "part-0.parquet")
    with pytest.raises(InvalidRequestError, match=r"nothing to export .*: it holds no rows"):
        export(empty, out, "lmms-eval")
    write_shard(empty / "errors" / "part-1.parquet", FAILED)
    with pytest.raises(InvalidRequestError, match="all of its 1 rows failed"):
        export(empty, out, "lmms-eval")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(InvalidRequestError, match="is empty"):
        export(tmp_path / "empty.jsonl", out, "lmms-eval")
    assert not out.exists()
