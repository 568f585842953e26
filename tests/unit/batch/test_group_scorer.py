"""What is asked of one video, in this process: for what a worker's own process hides."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from groundserve.batch.errors import ErrorKind
from groundserve.batch.group_scorer import Answered, Unanswered, score_group
from groundserve.batch.keys import find_video
from groundserve.batch.row import Group
from groundserve.errors import MediaError
from groundserve.limits import Limits
from tests.batch.scripted import ScriptedScorer, ScriptedSource
from tests.unit.batch.bench import Bench


@pytest.fixture
def store():
    filesystem = fsspec.filesystem("memory")
    for name in ("a", "corrupt-1"):
        filesystem.pipe_file(f"/videos/{name}.mp4", name.encode())
    yield filesystem
    filesystem.rm("/videos", recursive=True)


class ShortNamed(ScriptedScorer):
    """Takes a copy for the video of `real_name`: a copy's own name says nothing."""

    def __init__(self, real_name):
        super().__init__(ScriptedSource(), Limits())
        self.real_name = real_name
        self.paths = []

    def score(self, video, *args, **kwargs):
        self.paths.append(video)
        folder = video.rpartition("/")[0]
        return super().score(f"{folder}/{self.real_name}", *args, **kwargs)


def outcomes(tmp_path, name):
    bench = Bench(tmp_path)
    place = f"memory://videos/{name}"
    local = bench.group(name)
    video = find_video(place, hash_content=False)
    group = Group(place=place, identity=video.identity, rows=local.rows)
    scorer = ShortNamed(name)
    found = [one for one in score_group(scorer, group, bench.work) if not is_step(one)]
    return scorer.paths, found


def is_step(outcome):
    return not isinstance(outcome, Answered | Unanswered)


def test_a_video_in_a_store_is_scored_from_a_copy_that_goes(store, tmp_path):
    (path,), (answered,) = outcomes(tmp_path, "a.mp4")
    assert isinstance(answered, Answered)
    assert not path.startswith("memory:")
    assert not Path(path).exists()


def test_what_is_said_of_a_copy_is_said_of_the_video(store, tmp_path, monkeypatch):
    def score(self, video, *args, **kwargs):
        self.paths.append(video)
        raise MediaError(f"the video {video!r} is empty")

    monkeypatch.setattr(ShortNamed, "score", score)
    (_,), (unanswered,) = outcomes(tmp_path, "corrupt-1.mp4")
    assert unanswered.kind is ErrorKind.UNREADABLE
    assert unanswered.message == "the video 'memory://videos/corrupt-1.mp4' is empty"
