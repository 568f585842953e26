"""`groundserve export`: what is written, said and refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial

import fsspec
import pytest

from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, without_steps
from tests.support.results import make_result
from tests.unit.exports.made import (
    BIKES,
    FAILED,
    TALK,
    write_answers,
    write_batch,
    write_records,
    write_shard,
)

SCORE_ORDER = (
    '{"doc_id": 2, "index": [120, 30, 0, 60, 90]}\n{"doc_id": 7, "index": [25, 50, 0, 75]}\n'
)


@pytest.fixture
def run(tmp_path):
    scored = write_batch(tmp_path / "scored", BIKES, FAILED, TALK)
    # What a worker has not published yet is no part of it.
    write_shard(scored / "staging" / "0001" / "unit.partial", TALK)
    return partial(run_cli, "export", cwd=tmp_path)


def test_a_batch_becomes_a_file(run, tmp_path):
    code, out, err = run("scored", "--format", "lmms-eval", "--benchmark", "--out", "frames.jsonl")
    assert (code, out) == (0, "frames.jsonl: 2 questions\n")
    assert without_steps(err).splitlines() == [
        "note: 1 of 3 questions have no answer and are left out (Missing 1); readers sample "
        "uniformly there",
        "note: 6 of the numbers below the largest have no line; readers sample uniformly there",
    ]
    assert (tmp_path / "frames.jsonl").read_text() == SCORE_ORDER


def test_json_has_all_counts(run):
    code, out, err = run(
        "scored", "--format", "lmms-eval", "--order", "time", "--top-k", 3, "--out", "f.jsonl",
        "--json",
    )  # fmt: skip
    assert (code, json.loads(out)) == (
        0,
        {
            "out": "f.jsonl",
            "format": "lmms-eval",
            "num_rows": 2,
            "failures": {"Missing": 1},
            "is_unfinished": False,
            "num_otherwise_sampled": 0,
            "num_gaps": 6,
            "most_frames": 3,
            "num_unused_ids": 0,
            "num_below_threshold": 0,
        },
    )
    assert "note: let the reader take at least 3 frames" in err


def test_records_and_answers_are_sources_too(run, tmp_path):
    write_records(tmp_path / "r.jsonl", BIKES, TALK)
    assert run("r.jsonl", "--format", "lmms-eval", "--out", "a.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_text() == SCORE_ORDER
    write_answers(tmp_path / "answers.jsonl", TALK)
    args = ("answers.jsonl", "--format", "qvhighlights", "--doc-id", 40, "--out", "b.jsonl")
    assert run(*args)[0] == 0
    assert json.loads((tmp_path / "b.jsonl").read_text("utf-8"))["qid"] == 40


def test_an_existing_file_needs_replace(run, tmp_path):
    args = ("scored", "--format", "lmms-eval", "--out", "f.jsonl")
    (tmp_path / "f.jsonl").write_text("mine")
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert_one_error(err, "f.jsonl exists; write to another file, or replace it (--replace)")
    assert run(*args, "--replace")[0] == 0
    assert (tmp_path / "f.jsonl").read_text() == SCORE_ORDER


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("scored", "--format", "llava"), "pictures as files need a folder"),
        (("memory://gone", "--format", "lmms-eval"), "cannot read memory://gone"),
        (("s3://b/run", "--format", "lmms-eval"), "cannot reach s3:// places: Install s3fs"),
        (
            ("scored", "--format", "openai", "--frames", "s3://b/f"),
            "--frames must name a folder of this machine",
        ),
        (("scored", "--format", "openai", "--top-k", 3), "videos/bikes.mp4"),
    ],
)
def test_what_is_wrong_is_one_line(args, message, run, tmp_path):
    code, out, err = run(*args, "--out", "f.jsonl")
    assert (code, out) == (2, "")
    assert_one_error(err, message)
    assert not (tmp_path / "f.jsonl").exists()


def test_a_run_knows_where_its_videos_are(run, clips, tmp_path):
    (tmp_path / "corpus" / "videos").mkdir(parents=True)
    (tmp_path / "corpus" / "videos" / "bikes.mp4").symlink_to(clips["bikes"])
    write_batch(tmp_path / "bikes", BIKES)
    args = ("bikes", "--format", "openai", "--out", "m.jsonl")
    assert_one_error(run(*args)[2], "bikes.mp4; relative names start from --media-root")
    started = {"manifest": str(tmp_path / "corpus" / "m.jsonl")}
    (tmp_path / "bikes" / "run.json").write_text(json.dumps(started))
    code, out, err = run(*args)
    assert (code, out) == (0, "m.jsonl: 1 questions\n"), err
    (tmp_path / "bikes" / "attempts").mkdir()
    moved = {"manifest": "s3://moved/m.jsonl"}
    (tmp_path / "bikes" / "attempts" / "0002.json").write_text(json.dumps(moved))
    code, out, err = run(*args, "--replace")
    assert_one_error(err, "must be one of this machine, s3://moved is none; give another (--media-")


def test_a_run_in_a_store_and_a_file_there(run, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/scored/", "/store/run/", recursive=True)
    args = ("memory://store/run", "--format", "lmms-eval", "--out", "memory://store/f.jsonl")
    code, out, err = run(*args)
    assert (code, out) == (0, "memory://store/f.jsonl: 2 questions\n"), err
    assert memory.cat_file("/store/f.jsonl").decode() == SCORE_ORDER
    assert_one_error(run(*args)[2], "memory://store/f.jsonl exists; write to another, or replace")
    assert run(*args, "--replace")[0] == 0
    write_records(tmp_path / "r.jsonl", BIKES, TALK)
    memory.put_file(tmp_path / "r.jsonl", "/store/r.jsonl")
    args = ("memory://store/r.jsonl", "--format", "openai", "--out", "f.jsonl")
    assert_one_error(run(*args)[2], "memory://store/r.jsonl holds records, which say")


class Scorer:
    """Answers with frames 25 and 50 of any video."""

    def score(self, video, queries, options, **spans):
        """As `Pipeline.score`."""
        return make_result(str(video), queries, top_k=options.top_k)


def test_scored_here_and_handed_over(clips, tmp_path, monkeypatch):
    """The images that `score --frames` wrote are those that the messages name."""
    monkeypatch.setattr("groundserve.cli.score.open_scorer", lambda *_, **__: nullcontext(Scorer()))
    run = partial(run_cli, cwd=tmp_path)
    score = ("score", clips["bikes"], "--query", "When?", "--top-k", 2, "--json")
    code, answer, err = run(*score, "--frames", "frames")
    assert code == 0, err
    (tmp_path / "answer.json").write_text(answer, "utf-8")
    args = ("export", "answer.json", "--format", "openai", "--images", "file")
    code, _, err = run(*args, "--frames", "frames", "--out", "m.jsonl")
    assert code == 0, err
    content = json.loads((tmp_path / "m.jsonl").read_text("utf-8"))["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    (index,) = (tmp_path / "frames").glob("*_index.jsonl")
    entries = [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    assert [entry["frame_index"] for entry in entries] == [25, 50]
    assert urls == [(tmp_path / "frames" / entry["file"]).as_uri() for entry in entries]
    assert [part["text"] for part in content[1:-1:2]] == ["1.00 s:", "2.00 s:"]
