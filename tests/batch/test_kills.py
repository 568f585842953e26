"""A run whose processes are killed and that is resumed ends as one that nobody disturbed.

Many in a row: `python -m benchmarks.repeat` with a test of this file.
"""

from __future__ import annotations

import random

import pytest

from tests.batch.jobs import final_set, write_manifest
from tests.batch.kills import Killed
from tests.batch.scripted import RELEASED

NUM_VIDEOS = 24


@pytest.mark.timeout(300)
def test_killed_and_resumed_is_as_if_nothing_had_been(tmp_path):
    # The held ones keep the run from its end until all were killed. They are two, for a video
    # that two workers died with is given up.
    videos = [*(f"{video}.mp4" for video in range(NUM_VIDEOS)), "held-1.mp4", "held-2.mp4"]
    rows = [(video, query) for video in videos for query in ("one", "two")]
    manifest = write_manifest(tmp_path, rows)
    quiet = Killed(manifest, tmp_path / "quiet")
    assert quiet.run([], random.Random(0), max_seconds=0) == []
    (tmp_path / RELEASED).unlink()
    killed = Killed(manifest, tmp_path / "killed", "--seconds", "0.5")
    # The run goes on by itself but after the last two.
    left = killed.run(["worker", "worker", "ray", "driver"], random.Random(1), max_seconds=6)
    assert not left
    assert killed.num_starts >= 3
    assert [*quiet.temporary.iterdir(), *killed.temporary.iterdir()] == []
    expected = final_set(quiet.out)
    assert expected["id"].to_pylist() == [f"row-{number:05d}" for number in range(len(rows))]
    assert final_set(killed.out).equals(expected)
