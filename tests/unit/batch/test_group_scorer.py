"""What is asked of one video, in this process: for what a worker's own process hides."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from groundserve.batch.errors import ErrorKind
from groundserve.batch.group_scorer import Answered, Work, score_group
from groundserve.batch.keys import find_video
from groundserve.batch.row import Group
from groundserve.errors import MediaError
from groundserve.limits import Limits
from tests.batch.scripted import IDENTITY, ScriptedScorer, ScriptedSource
from tests.unit.batch.making import make_row


class Named(ScriptedScorer):
    """Keeps what it is asked about: a copy's own name says nothing."""

    def __init__(self, error=None):
        super().__init__(ScriptedSource(), Limits())
        self.paths = []
        self.error = error

    def score(self, video, *args, **kwargs):
        self.paths.append(video)
        if self.error:
            raise self.error(f"the video {video!r} is empty")
        return super().score(video, *args, **kwargs)


@pytest.mark.parametrize("error", [None, MediaError])
def test_a_video_in_a_store_is_scored_from_a_copy_that_goes(error):
    store, place = fsspec.filesystem("memory"), "memory://videos/a.mp4"
    store.pipe_file("/videos/a.mp4", b"a")
    identity = find_video(place, hash_content=False).identity
    group = Group(place=place, identity=identity, rows=(make_row(Path("a.mp4"), "When?", id="a"),))
    scorer = Named(error)
    work = Work(source=ScriptedSource(), engine_id=IDENTITY["id"], deadline_seconds=60)
    (outcome,) = filter(None, score_group(scorer, group, work))
    store.rm("/videos", recursive=True)
    (path,) = scorer.paths
    assert not path.startswith("memory:")
    assert not Path(path).exists()
    if error is None:
        assert isinstance(outcome, Answered)
    else:
        assert outcome.kind is ErrorKind.UNREADABLE
        assert outcome.message == f"the video {place!r} is empty"
