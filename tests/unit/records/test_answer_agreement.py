"""How answers of two files agree: hand-computed, and what is no file of answers."""

from __future__ import annotations

import json

import pytest

from groundserve.answers import Moment
from groundserve.errors import InvalidRequestError
from groundserve.records import AnswerAgreement, compare_answer_files
from tests.cli.command import run_cli
from tests.support.results import make_answer, make_answers


def answer(query, text, token_ids, *spans):
    moments = tuple(Moment(start_seconds=start, end_seconds=end) for start, end in spans)
    return make_answer(
        query, text, token_ids=make_answer().token_ids[:0], moments=moments
    ).to_json() | {"token_ids": token_ids}


def write(path, *answers, video="bikes.mp4"):
    line = {**make_answers().to_json(), "video": video, "answers": list(answers)}
    path.write_text(json.dumps(line) + "\n")
    return path


@pytest.fixture
def files(tmp_path):
    first = write(
        tmp_path / "a.jsonl",
        answer("a", "one", [5, 6, 2], (0, 2)),
        answer("b", "two", [7, 2], (0, 1), (3, 4)),
        answer("c", "three", [8, 2]),
        answer("a", "again", [1]),
    )
    second = write(
        tmp_path / "b.jsonl",
        answer("a", "one", [5, 6, 2], (1, 3)),
        answer("b", "two!", [7, 9, 9, 2], (4, 3), (0, 1)),
        answer("d", "four", [1]),
    )
    return first, second


def test_answers_are_paired_by_what_was_asked(files):
    # a: 1 s of 3; b: what runs backwards covers nothing, so 1 s of 2; tokens 3 of 3 and 1 of 4.
    assert compare_answer_files(*files) == AnswerAgreement(
        num_questions=2,
        num_only_in_first=1,
        num_only_in_second=1,
        num_repeated_in_first=1,
        num_repeated_in_second=0,
        same_text=0.5,
        same_tokens=0.5,
        shared_start=pytest.approx((1 + 1 / 4) / 2),
        time_iou=pytest.approx((1 / 3 + 1 / 2) / 2),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 must be one JSON object"),
        ('{"error": {"type": "MediaError"}}', "line 1: not an answer as groundserve ask --json"),
        (
            '\n{"video": "a", "answers": [{"task": "chat", "query": "q", "text": "t", '
            '"token_ids": [1], "moments": [{"start": "0", "end": 1}]}]}',
            "line 2: not an answer as groundserve ask --json",
        ),
    ],
)
def test_what_is_no_file_of_answers_is_named(tmp_path, files, text, message):
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        compare_answer_files(files[0], path)


def test_the_command_tells_the_two_kinds_apart(files):
    finished = run_cli("compare", *files, "--json")
    assert finished.code == 0, finished.stderr
    assert json.loads(finished.stdout)["same_text"] == 0.5
    assert "2 of 4 answers of" in finished.stderr
    assert "1 have no pair, 1 repeat an earlier question" in finished.stderr
    table = run_cli("compare", *files).stdout
    assert "IoU of moments" in table
    refused = run_cli("compare", *files, "--top-k", 3)
    assert (refused.code, refused.stdout) == (2, "")
    assert "--top-k is for files of scored frames" in refused.stderr
