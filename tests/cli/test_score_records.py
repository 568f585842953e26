"""`score --jsonl` and `compare`: what a folder of videos scored in a loop leaves in a file.

The scorer is a fake that knows one ranking; what is tested is which record comes of it, and when.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial

import pytest

from groundserve.records import make_doc_id
from tests.cli.command import MP4, run_cli
from tests.cli.steps import assert_one_error
from tests.support.results import RANKING, make_result

RANKING_LINE = '{"doc_id": %s, "index": [2, 1]}\n'


class Scorer:
    """Answers every question with one ranking, and counts."""

    num_calls = 0

    def score(self, video, queries, options, **spans):
        """As `Pipeline.score`."""
        self.num_calls += 1
        return make_result(str(video), queries, top_k=options.top_k)


@pytest.fixture
def scorer(monkeypatch):
    scorer = Scorer()

    @contextmanager
    def open_scorer(*sources, **options):
        yield scorer

    monkeypatch.setattr("groundserve.cli.score.open_scorer", open_scorer)
    return scorer


@pytest.fixture
def run(tmp_path):
    """Call a command in a folder with some videos; returns its code and what it said."""
    for name in ("a/clip.mp4", "b/clip.mp4", "b/talk.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(MP4)

    return partial(run_cli, cwd=tmp_path)


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_loop_over_videos_gives_each_question_an_id(run, scorer, tmp_path):
    videos = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("*/*.mp4"))
    for video in videos:
        code, _, err = run(
            "score", video, "--query", "When?", "--query", "Where?", "--jsonl", "r.jsonl"
        )
        assert code == 0, err
    records = read(tmp_path / "r.jsonl")
    assert [record["index"] for record in records] == [RANKING] * 6
    assert [record["doc_id"] for record in records] == [
        make_doc_id(video, query) for video in videos for query in ("When?", "Where?")
    ]
    assert len({record["doc_id"] for record in records}) == 6
    code, out, err = run("compare", "r.jsonl", "r.jsonl", "--json")
    assert (code, json.loads(out)["num_questions"], err) == (0, 6, "")


def test_selected_has_the_top_k_in_time_order(run, scorer, tmp_path):
    args = ("score", "a/clip.mp4", "--query", "When?", "--jsonl", "r.jsonl", "--top-k", 3)
    assert run(*args, "--jsonl-format", "selected", "--doc-id", 12)[0] == 0
    assert (tmp_path / "r.jsonl").read_text() == '{"doc_id": 12, "index": [0, 25, 50]}\n'


def test_a_question_scored_twice_is_refused_unless_replaced(run, scorer, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"doc_id": 3, "index": [1]}\n')
    args = ("score", "b/talk.mp4", "--query", "When?", "--jsonl", "r.jsonl")
    assert run(*args)[0] == 0
    before = path.read_bytes()
    code, out, err = run(*args)
    assert (code, out, scorer.num_calls) == (2, "", 1)
    doc_id = make_doc_id("b/talk.mp4", "When?")
    assert_one_error(
        err, f'r.jsonl, line 2: doc_id "{doc_id}" is there already; write to another file'
    )
    assert run(*args, "--replace")[0] == 0
    assert path.read_bytes() == before
    assert run(*args, "--replace", "--doc-id", 3)[0] == 0
    assert [record["doc_id"] for record in read(path)] == [3, doc_id]
    assert read(path)[0]["index"] == RANKING


SCORE = ("score", "a/clip.mp4", "--query", "When?")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--jsonl", "metrics.jsonl"), "metrics.jsonl, line 1: not a record with doc_id and index"),
        (("--jsonl", "half.jsonl"), "half.jsonl, line 1: no newline at its end"),
        (("--jsonl", "r.jsonl", "--doc-id", "-1"), "--doc-id must be >= 0, got -1"),
        (("--jsonl", "r.jsonl", "--query", "When?"), "--query must be another each time, or give"),
        (("--jsonl", "r.jsonl", "--jsonl-format", "selected"), "selected needs --doc-id"),
        (("--jsonl-format", "selected"), "--jsonl-format goes with --jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_records_that_cannot_be_written_are_refused_before_any_work(
    run, monkeypatch, tmp_path, args, message
):
    (tmp_path / "metrics.jsonl").write_text('{"loss": 1.5}\n')
    (tmp_path / "half.jsonl").write_text('{"doc_id": 1, "index": [1')
    monkeypatch.setattr("groundserve.cli.score.open_scorer", None)
    code, out, err = run(*SCORE, *args)
    assert (code, out) == (2, "")
    assert_one_error(err, message)
    assert not (tmp_path / "r.jsonl").exists()


def test_compare_says_what_it_did_not_compare(run, tmp_path):
    (tmp_path / "a.jsonl").write_text(RANKING_LINE % 0 * 23)
    (tmp_path / "b.jsonl").write_text(RANKING_LINE % 0 + RANKING_LINE % 1 + RANKING_LINE % '"x-1"')
    code, out, err = run("compare", "a.jsonl", "b.jsonl", "--json")
    assert code == 0
    assert json.loads(out) == {
        "num_questions": 1,
        "num_only_in_first": 0,
        "num_only_in_second": 2,
        "overlap_at_k": 1.0,
        "kendall_tau": 1.0,
        "num_repeated_in_first": 22,
        "num_repeated_in_second": 0,
        "num_in_time_order": 0,
    }
    assert err.splitlines() == [
        "note: 22 of 23 records of a.jsonl were not compared: 0 have no pair, 22 repeat an earlier "
        "doc_id",
        "note: 2 of 3 records of b.jsonl were not compared: 2 have no pair, 0 repeat an earlier "
        "doc_id",
    ]


def test_compare_says_that_selected_frames_have_no_ranking(run, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"doc_id": 0, "index": [1, 2]}\n' * 2)
    (tmp_path / "b.jsonl").write_text('{"doc_id": 0, "index": [2, 3, 4]}\n')
    _, _, err = run("compare", "a.jsonl", "b.jsonl")
    assert "every question are in time order in both files" in err.splitlines()[-1]
    assert run("compare", "a.jsonl", "b.jsonl", "--quiet")[2] == ""
    (tmp_path / "b.jsonl").write_text('{"doc_id": 0, "index": [2, 4, 3]}\n')
    assert "in time order" not in run("compare", "a.jsonl", "b.jsonl")[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.jsonl", "empty"), "empty holds no records"),
        (("a.jsonl", "list.json"), "list.json, line 1: not a record with doc_id and index"),
        (("a.jsonl", "indented.json"), "indented.json, line 1: not JSON"),
        (("a.jsonl", "a/clip.mp4"), "clip.mp4, line 1: not JSON"),
        (("a.jsonl", "b.jsonl"), 'share no doc_id: 0 is one of the first, "x-1" of the second'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_compare_refuses_what_it_cannot_compare(run, tmp_path, args, message):
    (tmp_path / "a.jsonl").write_text(RANKING_LINE % 0)
    (tmp_path / "b.jsonl").write_text(RANKING_LINE % '"x-1"')
    (tmp_path / "empty").write_bytes(b"")
    # As other selectors write them: one list for all questions, or one object over many lines.
    (tmp_path / "list.json").write_text("[[1, 5, 9], [2, 4]]\n")
    (tmp_path / "indented.json").write_text('{\n  "0": [1, 5, 9]\n}\n')
    code, out, err = run("compare", *args)
    assert (code, out) == (2, "")
    assert_one_error(err, message)
