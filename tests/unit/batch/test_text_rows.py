"""Rows that ask for text: their options, what is made of answers, and what is no answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groundserve.answers import Moment
from groundserve.batch.errors import ErrorKind
from groundserve.batch.group_scorer import Work, score_group
from groundserve.batch.keys import find_video, row_key
from groundserve.batch.plan import Plan
from groundserve.batch.row import Group
from groundserve.batch.rows import BadRow, Row, read_manifest
from groundserve.batch.shards import Unit, encode_rows
from groundserve.options import AnswerOptions
from tests.support.results import make_answer, make_answers
from tests.unit.batch.making import FINGERPRINT

MOMENT, CAPTIONS = AnswerOptions(), AnswerOptions(task="captions")
TEXT = replace(FINGERPRINT, family="vtimellm", defaults=MOMENT)


def test_what_is_asked_is_part_of_the_key(tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"a")
    rows = [
        Row(id="", video="a", place=str(video), query="x", options=options, position=0)
        for options in (MOMENT, replace(MOMENT, task="chat"), replace(MOMENT, max_new_tokens=9))
    ]
    identity = find_video(str(video), hash_content=False).identity
    assert len({row_key(identity, row, fingerprint=TEXT) for row in rows}) == 3


def read(tmp_path, *lines, defaults=MOMENT):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(read_manifest(str(path), defaults=defaults))


def test_a_row_whose_task_takes_no_question_needs_none(tmp_path):
    rows = read(
        tmp_path,
        {"video": "a.mp4"},
        {"video": "a.mp4", "query": ""},
        {"video": "a.mp4", "query": None},
        {"video": "a.mp4", "query": "When?", "options": {"task": "moment"}},
        defaults=CAPTIONS,
    )
    assert [row.query for row in rows] == ["", "", "", "When?"]
    assert [row.options.task for row in rows] == ["captions"] * 3 + ["moment"]
    (tmp_path / "m.csv").write_text("id,video\n1,a.mp4\n")  # nor a column of them
    (row,) = read_manifest(str(tmp_path / "m.csv"), defaults=CAPTIONS)
    assert (row.id, row.query) == ("1", "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": "a", "query": " ", "options": {"task": "captions"}}, "must not be empty or bl"),
        ({"video": "a", "query": "x", "options": {"task": "sing"}}, "task must be one of moment"),
        ({"video": "a", "query": "x", "options": {"top_k": 3}}, 'unknown option "top_k"'),
        ({"video": "a", "query": "x", "options": {"clip_seconds": [3, 1]}}, "0 <= start < end"),
        ({"video": "a", "query": "x", "options": {"temperature": 1}}, "needs a seed in a batch"),
        ({"video": "a", "query": "x", "task": "chat"}, "task is an option; put it into"),
    ],
)
def test_what_is_wrong_with_a_row_is_that_rows_error(tmp_path, row, message):
    (bad,) = read(tmp_path, row)
    assert isinstance(bad, BadRow)
    assert message in bad.message


class Answerer:
    """Says of each question what it was made with; keeps what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def ask(self, video, queries, options, *, timeout_seconds):
        self.asked.append((Path(video).name, queries, options, timeout_seconds))
        answers = [
            make_answer(query, task=options.task, **self.answers.get(query, {}))
            for query in queries
        ]
        result = make_answers(*answers)
        engine = {"id": TEXT.engine_id, "family": "vtimellm", "precision": "fp32"}
        return replace(result, info=replace(result.info, engine=engine))


@pytest.fixture
def group(tmp_path):
    """Three questions about one video, planned as a run does."""
    (tmp_path / "a.mp4").write_bytes(b"a")
    rows = read(tmp_path, *({"id": q, "video": "a.mp4", "query": q} for q in ("p", "q", "r")))
    with Plan.make(rows, fingerprint=TEXT) as plan:
        (group,) = plan.groups()
    return group


def score(answerer, group: Group) -> Unit:
    """Do what a worker does with one video."""
    work = Work(source=None, engine_id=TEXT.engine_id, deadline_seconds=7.0)
    unit = Unit(0)
    for outcome in score_group(answerer, group, work):
        if hasattr(outcome, "result"):
            unit.add(group, outcome.options, outcome.result)
        elif hasattr(outcome, "kind"):
            unit.fail(group, outcome.kind, outcome.message, outcome.options, outcome.queries)
    return unit


def rows_of(unit: Unit) -> dict[str, dict]:
    rows = pq.read_table(pa.BufferReader(encode_rows(unit.rows))).to_pylist()
    return {row["id"]: row for row in rows}


def test_answers_become_rows(group):
    caption = Moment(start_seconds=1.0, end_seconds=0.5, score=0.25, text="half \ud83d")
    answerer = Answerer(
        q={"text": "It does not.", "moments": ()},
        r={"stop_reason": "length", "moments": (caption,)},
    )
    unit = score(answerer, group)
    assert answerer.asked == [("a.mp4", ["p", "q", "r"], MOMENT, 7.0)]
    assert unit.failures == []
    assert unit.published(shard="a", num_bytes=1, sha256="a").video_seconds == 4.0
    rows = rows_of(unit)
    assert rows["p"]["answer"] == "From 20 to 50."
    assert rows["p"]["stop_reason"] == "eos"
    assert rows["p"]["moments"] == [
        {"start_seconds": 0.8, "end_seconds": 2.0, "score": None, "text": ""}
    ]
    assert rows["p"]["frame_indices"] == [0, 25, 25, 75]
    assert rows["p"]["duration_seconds"] == 4.0
    assert json.loads(rows["p"]["options"])["task"] == "moment"
    assert rows["p"]["frame_logits"] is rows["p"]["spans"] is rows["p"]["error_kind"] is None
    assert (rows["q"]["answer"], rows["q"]["moments"]) == ("It does not.", [])
    assert rows["r"]["stop_reason"] == "length"
    assert rows["r"]["moments"][0]["text"] == r"half \ud83d"


def test_an_answer_that_was_cut_by_the_time_is_none(group):
    answerer = Answerer(q={"stop_reason": "deadline"})
    unit = score(answerer, group)
    assert set(rows_of(unit)) == {"p", "r"}
    (failure,) = unit.failures
    assert (failure.id, failure.kind) == ("q", ErrorKind.TIMEOUT)
    assert "time was up" in failure.message
