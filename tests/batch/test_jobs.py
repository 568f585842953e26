"""Jobs on a real Ray of two cores."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from groundserve.batch.engines import EngineSource
from groundserve.batch.events import UnitDone
from groundserve.batch.group_scorer import JobError
from groundserve.batch.ray_pool import Workers
from groundserve.options import ScoreOptions
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.pipeline import Pipeline
from tests.batch.jobs import Job, write_manifest
from tests.batch.scripted import ScriptedSource

POISON = {
    "corrupt-1.mp4": "Unreadable",
    "missing-1.mp4": "Missing",
    "late-1.mp4": "Timeout",
    "hang-1.mp4": "Timeout",
    "hanglocked-1.mp4": "Timeout",
    "die-1.mp4": "WorkerDied",
    "decoder-1.mp4": "WorkerDied",
    "fault-1.mp4": "Internal",
    "unavailable-1.mp4": "Unavailable",
    "oversized-1.mp4": "TooLarge",
}
GOOD = [*(f"good-{number}.mp4" for number in range(38)), "dieonce-1.mp4", "decoderonce-1.mp4"]


@pytest.fixture
def ray_is_gone():
    """Nothing is left of a job that has ended: no process, no folder."""
    before = psutil.Process().children(recursive=True)
    yield
    children = {*psutil.Process().children(recursive=True)} - {*before}
    # What has ended and was not waited for is no longer there.
    running = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
    assert not [one for one in running if "ray" in " ".join(one.cmdline())]
    assert not list(Path("/tmp").glob(f"gs-ray-{os.getpid()}-*"))


def test_bad_rows_are_errors_and_all_others_have_answers(tmp_path, someones_ray):
    rows = [(video, query) for video in GOOD for query in ("one", "two")]
    rows[10:10] = [(video, "one") for video in POISON]
    rows[5:5] = [(GOOD[0], "a bad question"), (GOOD[0], "a good question")]
    manifest = write_manifest(tmp_path, rows)
    with (tmp_path / "oversized-1.mp4").open("wb") as file:
        file.truncate(16 * 1024**3 + 1)  # takes no room on the disk
    job = Job(
        manifest=manifest,
        out=tmp_path / "out",
        source=ScriptedSource(seconds=0.2, calls=tmp_path / "calls"),
        settings={"deadline_seconds": 2.0, "hang_seconds": 2.0},
    )
    when_published = []

    def look(event):
        if isinstance(event, UnitDone):
            shards = len([*job.out.glob("scores/*.parquet")])
            when_published.append(shards)

    job.run(on_event=look)
    # Published as they were done, and not at the end.
    assert when_published == sorted(when_published)
    assert len(set(when_published)) > 3
    final = job.final().to_pylist()
    assert [row["id"] for row in final] == [f"row-{n:05d}" for n in range(len(rows))]
    assert {row["video"]: row["error_kind"] for row in final if row["error_kind"]} == {
        **POISON,
        GOOD[0]: "Refused",
    }
    assert Counter(row["error_kind"] for row in final)["Refused"] == 1
    assert all(row["frame_logits"] for row in final if not row["error_kind"])
    lines = [line.split(" ") for line in (tmp_path / "calls").read_text().splitlines()]
    decoded = Counter(video for _, video, _, how in lines if how.strip() == "decoded")
    assert set(decoded.values()) == {1}
    assert len({pid for pid, *_ in lines}) >= 2  # two workers


class NoSource(ScriptedSource):
    def open(self, **_):
        raise RuntimeError("no engine here")


class DyingSource(ScriptedSource):
    def open(self, **_):
        os._exit(3)


@pytest.mark.parametrize(
    ("source", "videos", "message"),
    [
        (NoSource(), ["a.mp4"], "RuntimeError: no engine here"),
        (DyingSource(), ["a.mp4"], "opens a worker's engines died 3 times in a row"),
        (ScriptedSource(engine_id="b"), ["a.mp4"], "has the engines b, and the run is of scripted"),
        (
            ScriptedSource(is_shared=True),
            [f"unavailable-{number}.mp4" for number in range(5)],
            "no server took 3 videos in a row: nobody answers",
        ),
    ],
    ids=["no engines", "engines that kill", "other engines", "no servers"],
)
def test_what_ends_a_job(tmp_path, someones_ray, source, videos, message):
    manifest = write_manifest(tmp_path, [(video, "one") for video in videos])
    job = Job(manifest=manifest, out=tmp_path / "out", source=source)
    with pytest.raises(JobError, match=message):
        job.run()


def test_engines_answer_as_a_pipeline_does_and_encode_once(
    tmp_path, digit_videos, engines_of, monkeypatch, ray_is_gone
):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    videos = [os.path.relpath(path, tmp_path) for path in digit_videos]
    rows = [(video, f"When is the digit {n} shown?") for video in videos for n in range(3)]
    rows += [(videos[0], f"When does the digit {n} move?") for n in range(40)]  # over one call's
    manifest = write_manifest(tmp_path, rows)
    engines = engines_of(SHIPPED_CHECKPOINT, "cpu")
    source = EngineSource(engines=engines)
    job = Job(
        manifest=manifest,
        out=tmp_path / "out",
        source=source,
        identity=source.identity(),
        workers=Workers(count=2),
    )
    events = job.run()
    assert not (tmp_path / "home" / ".ray").exists()  # where Ray puts its token, if it may
    done = [event for event in events if isinstance(event, UnitDone)]
    assert sum(event.num_decoded for event in done) == len(videos)
    assert sum(event.num_calls for event in done) == len(videos) + 1
    final = job.final().to_pylist()
    assert len(final) == len(rows)
    assert not [row["error_message"] for row in final if row["error_kind"]]
    with Pipeline.open(engines, num_threads=1) as pipeline:
        for path, video in zip(digit_videos, videos, strict=True):
            asked = [row for row in final if row["video"] == video][:3]
            expected = pipeline.score(path, [row["query"] for row in asked], ScoreOptions())
            for row, query in zip(asked, expected.queries, strict=True):
                np.testing.assert_allclose(
                    row["frame_logits"], query.frame_logits, rtol=0, atol=1e-4
                )
                assert row["selected_frames"] == query.selected_frames.tolist()
