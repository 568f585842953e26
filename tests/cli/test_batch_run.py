"""What `groundserve batch` and `batch status` say and leave, with the scoring in this process.

The workers' own code scores; only Ray, which the tests of the job have, is left out.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from groundserve.batch import frame_output
from groundserve.batch.group_scorer import Answered, Unanswered, score_group
from groundserve.batch.shards import Unit
from groundserve.errors import MediaError
from groundserve.frames import iterate_frames
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, read_steps, without_steps
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import SET_2

VIDEOS = ("rotated", "vfr")
QUERIES = ("a man", "<script>alert(1)</script>")


class Here:
    """Stands in for `run_job`: the same events and files, video by video, in this process."""

    def __init__(self) -> None:
        self.stop_after: int | None = None
        """Videos after which a signal comes."""

    def __call__(self, plan, directory, work, *, workers, on_event):

        def tell(event):
            directory.write(event)
            on_event(event)

        tell(plan.started(workers=1, manifest=directory.manifest))
        with work.source.open(num_threads=1, limits=work.limits) as scorer:
            for number, group in enumerate(plan.groups()):
                if number == self.stop_after:
                    signal.raise_signal(signal.SIGINT)
                for event in directory.publish([self._score(scorer, group, work)]):
                    on_event(event)

    def _score(self, scorer, group, work):
        unit = Unit(0)
        for outcome in score_group(scorer, group, work):
            if isinstance(outcome, Answered):
                unit.add(group, outcome.options, outcome.result)
            elif isinstance(outcome, Unanswered):
                unit.fail(group, outcome.kind, outcome.message, outcome.options, outcome.queries)
        return unit


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    job = Here()
    monkeypatch.setattr("groundserve.cli.batch_run.run_job", job)
    return job


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest: two videos with two questions each, one that is missing, one that is none."""
    (tmp_path / "bad.mp4").write_text("no video")
    videos = [str(SET_2 / f"{name}.mp4") for name in VIDEOS]
    rows = [
        {"id": f"{place}/{number}", "video": video, "query": query, "options": {"top_k": 3}}
        for place, video in enumerate([*videos, "bad.mp4", "missing.mp4"])
        for number, query in enumerate(QUERIES)
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


@pytest.fixture
def batch(corpus, engine_dirs, here):
    engines = engine_dirs["cpu"]

    def run(*args):
        out = corpus.parent / "run"
        return run_cli("batch", corpus, "--out", out, "--engines", engines, *args)

    return run


def rows_of(directory: Path) -> dict[str, dict]:
    rows = [row for path in directory.rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def test_a_run_tells_its_counts_and_places(batch, tmp_path):
    code, out, err = batch("--json", "--price-per-hour", "2")
    assert code == 0, err
    assert without_steps(err) == ""
    answer = json.loads(out)
    run = tmp_path / "run"
    assert {key: answer[key] for key in ("num_rows", "num_done", "num_failed", "attempt")} == {
        "num_rows": 8,
        "num_done": 4,
        "num_failed": 4,
        "attempt": 1,
    }
    assert answer["failures"] == {"Missing": 2, "Unreadable": 2}
    assert answer["num_rows_this_attempt"] == 6  # a missing video is not tried
    assert answer["rows_per_second"] == pytest.approx(6 / answer["seconds"], rel=0.01)
    assert answer["video_hours"] > 0
    assert answer["out"] == str(run)
    assert Path(answer["records"]).read_text().count("\n") == 4
    report = Path(answer["report"]).read_text("utf-8")
    assert "&lt;script&gt;" not in report  # no query of a row that succeeded stands in it
    assert "cost of 1,000 video hours" in report
    rows = rows_of(run)
    assert rows.keys() == {f"{place}/{number}" for place in range(4) for number in range(2)}


def test_ctrl_c_stops_it_and_resume_goes_on(batch, here, tmp_path, monkeypatch):
    here.stop_after = 1
    stopped = batch("--json")
    assert (stopped.code, stopped.stdout) == (130, "")
    assert without_steps(stopped.stderr) == (
        "groundserve: stopped: 2 of 8 rows are done; the same command with --resume goes on\n"
    )
    run = tmp_path / "run"
    with monkeypatch.context() as patch:  # this process lives, a driver's would not
        patch.setattr("groundserve.batch.status.process_mark", lambda _: None)
        dead = run_cli("batch", "status", run)
    assert dead.code == 0
    assert "stopped before its end; --resume goes on; attempt 1" in dead.stdout
    here.stop_after = None
    refused = batch()
    assert refused.code == 2
    assert_one_error(refused.stderr, "holds a run already; go on with it by --resume")
    first = {path.name for path in (run / "scores").iterdir()}
    resumed = batch("--resume", "--json")
    assert resumed.code == 0, resumed.stderr
    answer = json.loads(resumed.stdout)
    assert (answer["attempt"], answer["num_done"], answer["num_failed"]) == (2, 4, 4)
    assert answer["num_rows_this_attempt"] == 4
    assert first < {path.name for path in (run / "scores").iterdir()}
    assert len(rows_of(run)) == 8
    report = (run / "report.html").read_text()
    assert "attempt 2" in report
    assert "ended before it was done" in report


def test_frames_of_each_row_and_each_video_decoded_once(batch, tmp_path, monkeypatch):
    decoded = []

    def counted(video, *args, **kwargs):
        decoded.append(os.path.basename(video))
        return iterate_frames(video, *args, **kwargs)

    monkeypatch.setattr(frame_output, "iterate_frames", counted)
    frames = tmp_path / "frames"
    code, out, err = batch("--frames", frames, "--frames-format", "png", "--json")
    assert code == 0, err
    assert sorted(decoded) == [f"{name}.mp4" for name in VIDEOS]
    index = Path(json.loads(out)["frames"])
    entries = [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    rows = {key: row for key, row in rows_of(tmp_path / "run").items() if not row["error_kind"]}
    assert {entry["id"] for entry in entries} == rows.keys()
    pictures = {str(path.relative_to(frames)) for path in frames.rglob("*.png")}
    assert {entry["file"] for entry in entries} == pictures
    for row_id, row in rows.items():
        own = [entry for entry in entries if entry["id"] == row_id]
        assert [entry["frame_index"] for entry in own] == row["selected_frames"]
        assert [entry["seconds"] for entry in own] == row["selected_seconds"]
        assert {(entry["video"], entry["query"]) for entry in own} == {(row["video"], row["query"])}
        best = max(own, key=lambda entry: entry["score"])
        assert best["rank"] == 1
        whole = decode_whole_file(Path(row["video"]))
        with Image.open(frames / best["file"]) as image:
            np.testing.assert_array_equal(np.asarray(image), whole[best["frame_index"]])


def test_frames_of_a_run_that_was_stopped_are_completed(batch, here, tmp_path):
    frames = ("--frames", tmp_path / "frames", "--frames-side", "32")
    here.stop_after = 1
    assert batch(*frames).code == 130
    here.stop_after = None
    other = batch("--resume")
    assert other.code == 2
    assert_one_error(other.stderr, "--frames: jpeg of quality 95, longest side 32 in ")
    code, out, err = batch(*frames, "--resume", "--json")
    assert code == 0, err
    lines = Path(json.loads(out)["frames"]).read_text("utf-8").splitlines()
    assert len(lines) == 4 * 3
    assert all((tmp_path / "frames" / json.loads(line)["file"]).is_file() for line in lines)


def test_video_whose_frames_cannot_be_had_is_an_error_and_no_answer(batch, tmp_path, monkeypatch):
    def broken(output, video, entries, **_):
        if video.endswith("vfr.mp4"):
            raise MediaError("frame 3 of the video: it does not decode")
        return frame_output.write_frames(output, video, entries, timeout_seconds=60)

    monkeypatch.setattr("groundserve.batch.group_scorer.write_frames", broken)
    code, out, err = batch("--frames", tmp_path / "frames", "--json")
    assert code == 0, err
    assert json.loads(out)["failures"] == {"Missing": 2, "Unreadable": 4}
    rows = rows_of(tmp_path / "run")
    assert rows["1/0"]["error_message"] == "frame 3 of the video: it does not decode"
    lines = (tmp_path / "frames" / "index.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["id"] for line in lines} == {"0/0", "0/1"}


def test_a_run_that_is_finished(batch, tmp_path):
    """Its tables, its status, its report again; and a resume, which leaves it as it is."""
    code, out, err = batch("--max-attempts", "1")
    assert code == 0
    assert out.splitlines()[:2] == [
        "rows      8: 4 done, 4 failed",
        "failed    2 Missing, 2 Unreadable",
    ]
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["out", "records", "report"]
    steps = [step for _, step in read_steps(err)]
    assert steps[0] == "starting"
    assert steps[-1].startswith("8 of 8 rows, 4 failed, ")
    run = tmp_path / "run"
    report = run / "report.html"
    report.unlink()
    code, out, err = run_cli("batch", "status", run, "--json")
    assert (code, err) == (0, "")
    status = json.loads(out)
    assert (status["state"], status["num_rows"], status["num_left"]) == ("finished", 8, 0)
    assert not report.exists()
    code, out, _ = run_cli("batch", "status", run, "--report", "--price-per-hour", "3")
    assert code == 0
    assert out.splitlines()[-1] == f"report    {report}"
    assert "at 3 an hour" in report.read_text("utf-8")
    code, out, err = batch("--resume", "--top-k", "7", "--frames", "frames")
    assert (code, out) == (2, "")
    assert_one_error(err, "--top-k: 32 before, 7 now")
    assert read_steps(err) == []
    assert "--frames: none before, jpeg of quality 95 in " in err
    rows = rows_of(run)
    code, out, _ = batch("--resume", "--max-attempts", "1", "--json")
    assert (code, json.loads(out)["num_rows_this_attempt"]) == (0, 0)
    assert rows_of(run) == rows


def test_the_checkpoints_note_is_said(corpus, here):
    run = corpus.parent / "run"
    code, out, err = run_cli("batch", corpus, "--out", run, "--checkpoint", "digits")
    assert code == 0, err
    note = "trained on moving handwritten digits; of other videos its scores say nothing"
    assert f"note      {note}\n" in out
    assert f"Note: {note}" in (run / "report.html").read_text("utf-8")
    assert json.loads(run_cli("batch", "status", run, "--json").stdout)["checkpoint_note"] == note
    code, out, _ = run_cli(
        *("--quiet", "batch", corpus, "--out", run, "--checkpoint", "digits", "--resume", "--json")
    )
    assert (code, json.loads(out)["checkpoint_note"]) == (0, note)


def test_a_folder_with_questions(engine_dirs, here, clips, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in VIDEOS:
        (videos / f"{name}.mp4").symlink_to(clips[name])
    code, out, err = run_cli(
        *("batch", videos, "--query", "a man", "--query", "a tree", "--out", tmp_path / "run"),
        *("--engines", engine_dirs["cpu"], "--json"),
    )
    assert code == 0, err
    assert json.loads(out)["num_done"] == 4
