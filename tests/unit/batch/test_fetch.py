import io
from pathlib import Path

import fsspec
import pytest

from groundserve.batch import fetch
from groundserve.batch.errors import ErrorKind
from groundserve.batch.fetch import FetchError, local_file
from groundserve.errors import DeadlineExceededError
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline

CONTENT = bytes(range(256)) * 100


def soon() -> Deadline:
    """Far enough away; counted from the call, since a whole suite may run before."""
    return Deadline.after(60)


@pytest.fixture
def store():
    """A store in memory, emptied afterwards: fsspec keeps one for the whole process."""
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/videos/a.mp4", CONTENT)
    yield filesystem
    filesystem.rm("/videos", recursive=True)


@pytest.fixture(autouse=True)
def copies(monkeypatch, tmp_path):
    monkeypatch.setattr(fetch.tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()


@pytest.mark.parametrize("place", ["/nowhere/a.mp4", "memory://videos/b.mp4"])
def test_what_is_gone_is_missing(store, place):
    with pytest.raises(FetchError, match="any more") as caught:
        local_file(place, limits=Limits(), deadline=soon()).__enter__()
    assert caught.value.kind is ErrorKind.MISSING


def test_no_more_is_copied_than_a_video_may_have(store, tmp_path):
    limits = Limits(max_file_bytes=len(CONTENT) - 1)
    with pytest.raises(FetchError, match="max_file_bytes") as caught:
        local_file("memory://videos/a.mp4", limits=limits, deadline=soon()).__enter__()
    assert caught.value.kind is ErrorKind.TOO_LARGE
    assert not list((tmp_path / "copies").iterdir())


def test_copying_ends_with_its_time(store):
    with pytest.raises(DeadlineExceededError):
        local_file("memory://videos/a.mp4", limits=Limits(), deadline=Deadline.after(0)).__enter__()


class BrokenFile(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            raise ConnectionResetError("the store hung up")
        self.seek(1)
        return CONTENT[:1000]


def test_a_store_that_breaks_off_is_unavailable(store, monkeypatch, tmp_path):
    monkeypatch.setattr(type(store), "open", lambda *_, **__: BrokenFile())
    with pytest.raises(FetchError, match="the store hung up") as caught:
        local_file("memory://videos/a.mp4", limits=Limits(), deadline=soon()).__enter__()
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert not list((tmp_path / "copies").iterdir())
    monkeypatch.undo()
    with local_file("memory://videos/a.mp4", limits=Limits(), deadline=soon()) as path:
        assert Path(path).read_bytes() == CONTENT
