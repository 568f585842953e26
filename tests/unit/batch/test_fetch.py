import io
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from groundserve.batch import fetch
from groundserve.batch.errors import ErrorKind
from groundserve.batch.fetch import FetchError, local_file
from groundserve.batch.keys import find_video
from groundserve.batch.row import RowParser
from groundserve.errors import DeadlineExceededError, MediaError
from groundserve.fetching import NO_URLS, FetchPolicy
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from groundserve.runtime.deadline import Deadline
from tests.support.origin import Origin, whole

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


URLS = FetchPolicy(hosts=("http://*:*",), networks=("127.0.0.0/8",))


def test_a_video_behind_a_url_is_copied(tmp_path):
    with Origin({"/a.mp4": whole(CONTENT)}) as origin:
        limits, deadline = Limits(), soon()
        with local_file(origin.url(), limits=limits, deadline=deadline, policy=URLS) as path:
            assert Path(path).read_bytes() == CONTENT
    assert not list((tmp_path / "copies").iterdir())


@pytest.mark.parametrize(
    ("policy", "path", "kind"),
    [
        (NO_URLS, "/a.mp4", ErrorKind.REFUSED),
        (replace(URLS, networks=()), "/a.mp4", ErrorKind.UNAVAILABLE),
        (URLS, "/b.mp4", ErrorKind.UNAVAILABLE),
        (replace(URLS, max_bytes=9), "/a.mp4", ErrorKind.TOO_LARGE),
    ],
)
def test_a_url_that_gives_nothing_is_told_why(policy, path, kind):
    with Origin({"/a.mp4": whole(CONTENT)}) as origin:
        copy = local_file(origin.url(path), limits=Limits(), deadline=soon(), policy=policy)
        with pytest.raises(FetchError) as caught:
            copy.__enter__()
    assert caught.value.kind is kind


def test_a_row_may_have_a_url_and_is_told_by_it():
    url = "https://videos.example/a.mp4?key=1"
    values = {"video": url, "query": "x"}
    row = RowParser("/folder", ScoreOptions()).parse(values, 0)
    assert row.place == url
    assert find_video(url, hash_content=False).identity == f'["{url}"]'
    with pytest.raises(MediaError, match="--hash-content"):
        find_video(url, hash_content=True)
    bad = RowParser("/folder", ScoreOptions()).parse({**values, "video": "http://a@b/"}, 0)
    assert "may not be fetched" in bad.message
