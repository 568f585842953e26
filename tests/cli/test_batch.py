"""`groundserve batch`: its two forms, and what is refused before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from groundserve.families import get_text_family
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error

IDENTITY = {"id": "e", "checkpoint": "m", "family": "videoitg", "precision": "fp32"}
ROW = {"id": "a", "video": "a.mp4", "query": "When?"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Call `groundserve batch` in a folder of odd files; nothing may be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("the job was started")

    monkeypatch.setattr("groundserve.cli.batch_run.run_job", started)
    monkeypatch.setattr("groundserve.batch.engines.EngineSource.identity", started)
    monkeypatch.setattr("groundserve.cli.batch_job.available_cpus", lambda: 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "m.txt").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "no_video.csv").write_text("id,query\n1,a\n")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    return lambda *args: run_cli("batch", *args)


REFUSED = [
    ("m.txt", "a manifest must end in .jsonl, .parquet, .csv"),
    ("no_video.csv", "video"),
    ("status", "Missing argument 'DIR'"),
    ("videos", "videos is a folder: say with --query what to ask"),
    ("empty --query a", "empty has no video"),
    ("videos --query a --query a", "each once"),
    ("m.jsonl --query a", "--query goes with a folder of videos"),
    ("m.jsonl --out full", "is not empty (something is in it); name another folder"),
    ("m.jsonl --out ftp://a/b", "must be a path or a URL"),
    ("m.jsonl --engines empty --checkpoint digits", "not both"),
    ("m.jsonl --server a:1 --checkpoint digits", "not both"),
    ("m.jsonl --server grpc://a:1 --server grpc://a:1", "is given twice"),
    ("m.jsonl --checkpoint digits --task moment", "--task is for an engine that answers in text"),
    ("m.jsonl --raw", "--raw is for an engine that answers in text, and this one scores"),
    ("m.jsonl --task chat --server grpc://a:1 --top-k 3", "--top-k is for an engine that scores"),
    ("m.jsonl --task chat --server grpc://a:1 --frames new", "--frames is for an engine that sco"),
    ("videos --task chat --server grpc://a:1", "videos is a folder: say with --query what"),
    ("m.jsonl --workers 0", "--workers must be >= 1, got 0"),
    ("m.jsonl --workers 9", "--cpus-per-worker 1 need 9 CPUs, and there are 3; --workers 3 fit"),
    ("m.jsonl --cpus-per-worker 4", "and there are 3; lower --cpus-per-worker"),
    ("m.jsonl --cpus-per-worker 0", "--cpus-per-worker must be a number > 0, got 0.0"),
    ("m.jsonl --timeout-seconds 0", "--timeout-seconds must be > 0 and at most 604800, got 0"),
    ("m.jsonl --max-attempts 0", "--max-attempts must be >= 1, got 0"),
    ("m.jsonl --price-per-hour 0", "--price-per-hour must be a number > 0, got 0.0"),
    ("m.jsonl --frames full", "--frames must name an empty or new folder"),
    ("m.jsonl --out new --frames ./new/scores/x", "is where the run keeps files of its own"),
    ("m.jsonl --frames new --frames-format png --frames-quality 9", "quality goes with"),
    ("m.jsonl --frames-format png", "--frames-format goes with --frames"),
    ("status none", "none holds no run"),
    ("status full", "has no run of groundserve and is not empty (something is in it)"),
    ("status none --price-per-hour 1", "--price-per-hour goes with --report"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED, ids=[args for args, _ in REFUSED])
def test_refused_at_once_with_one_line_and_2(run, tmp_path, args, message):
    words = [" " if word == "_" else word for word in args.split()]
    if "--out" not in words and "status" not in words:
        words += ["--out", "out"]
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert_one_error(err, message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "workers"),
    [
        ("", 1),
        ("--workers 1", 1),
        ("--workers 2 --gpus-per-worker 1", 2),
        ("--gpus-per-worker 1", None),
        ("--workers 2", "--workers 2: with engines of the profile vllm each worker starts a vLLM"),
        ("--workers 2 --gpus-per-worker 0.5", "or ask a server (--server)"),
    ],
)
def test_engines_of_vllm_have_one_worker_or_a_gpu_each(run, tmp_path, monkeypatch, args, workers):
    manifest = SimpleNamespace(profile="vllm", seam=get_text_family("vtimellm"))
    monkeypatch.setattr("groundserve.engines.manifest.Manifest.load", lambda _: manifest)
    jobs = []
    monkeypatch.setattr("groundserve.cli.batch.run_batch", lambda job, rows: jobs.append(job))
    options = ("--engines", "e", "--vllm-python", "p", "--out", "out", *args.split())
    code, _, err = run("m.jsonl", *options)
    if isinstance(workers, str):
        assert code == 2
        assert_one_error(err, workers)
        return
    assert code == 0, err
    assert [job.workers.count for job in jobs] == [workers]
    assert jobs[0].source.vllm_python == Path("p")


def test_rows_that_the_family_cannot_be_asked_are_broken_ones(run, tmp_path, monkeypatch):
    """Which family it is, servers say only when they are asked; there is nothing left to do."""
    rows = [{}, {"options": {"task": "summary"}, "query": "a"}, {"options": {"task": "question"}}]
    lines = [json.dumps({"video": "a.mp4", **row}) + "\n" for row in rows]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    family = IDENTITY | {"family": "vtgllm"}
    monkeypatch.setattr("groundserve.batch.engines.EngineSource.identity", lambda *_: family)
    asked = ("m.jsonl", "--task", "highlights", "--server", "grpc://a:1", "--out", "out", "--json")
    code, out, err = run_cli("batch", *asked)
    assert code == 0, err
    assert json.loads(out)["failures"] == {"InvalidRow": 3}


def test_id_given_twice_leaves_nothing_behind(run, tmp_path, monkeypatch):
    (tmp_path / "m.jsonl").write_text((json.dumps(ROW) + "\n") * 2)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("groundserve.batch.engines.EngineSource.identity", lambda *_: IDENTITY)
    code, out, err = run_cli("batch", "m.jsonl", "--out", "out")
    assert (code, out) == (2, "")
    assert_one_error(err, 'each row of the manifest must have its own id, got "a" in row 1')
    assert not (tmp_path / "out").exists()


def test_missing_extra_is_named_and_1(run, monkeypatch):
    monkeypatch.setattr(
        "groundserve.cli.batch_job.find_spec", lambda module: None if module == "ray" else sys
    )
    code, out, err = run("m.jsonl", "--out", "out")
    assert (code, out) == (1, "")
    assert_one_error(err, "ray is not installed; it comes with: pip install 'groundserve[batch]'")


@pytest.mark.parametrize(
    ("args", "usage"),
    [
        (["--help"], "Usage: groundserve batch [OPTIONS] "),
        (["status", "--help"], "Usage: groundserve batch status [OPTIONS] "),
        (["--quiet", "status", "--help"], "Usage: groundserve batch status [OPTIONS] "),
    ],
)
def test_help_of_each_form(args, usage):
    code, out, _ = run_cli("batch", *args)
    assert code == 0
    assert usage in out
    assert "Example: groundserve batch" in out
