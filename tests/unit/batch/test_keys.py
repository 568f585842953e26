"""Keys change where, and only where, something changes that decides a result."""

import dataclasses
import hashlib
import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundserve.batch.keys import (
    find_video,
    require_unchanged,
    row_key,
)
from groundserve.errors import MediaError, UnavailableError
from groundserve.options import ScoreOptions
from tests.unit.batch.making import FINGERPRINT, make_row

VIDEO = Path("/videos/v.mp4")
TEXTS = st.text(st.characters(codec="utf-8"))
OPTIONS = st.builds(
    ScoreOptions,
    num_frames=st.none() | st.integers(1, 4),
    sample_fps=st.sampled_from([1, 1.0, 0.5, 2]),
    sampling=st.sampled_from(["eval", "infer"]),
    seek=st.sampled_from(["exact", "keyframe"]),
    top_k=st.integers(1, 3),
    selector=st.sampled_from(["topk", "spread"]),
)
DECIDES = st.tuples(
    st.sampled_from(["sha256 1", "sha256 2", '["/a", 1, 2]']),  # identity
    TEXTS,  # query
    OPTIONS,
    st.sampled_from(["e1", "e2"]),  # engine
    st.sampled_from(["fp32", "int8"]),
    st.sampled_from([0, 0.0, 0.5]),  # span_threshold
    st.sampled_from([0.0, 1.0]),  # span_gap_seconds
    st.sampled_from(["0.1.0", "0.2.0"]),
)
REST = st.tuples(TEXTS, TEXTS, TEXTS, st.integers(0), st.booleans(), OPTIONS)


def key_of(decides, rest):
    identity, query, options, engine, precision, threshold, gap, version = decides
    id, video, model, position, hash_content, defaults = rest
    row = dataclasses.replace(
        make_row(VIDEO, query, id=id, position=position), options=options, video=video
    )
    fingerprint = dataclasses.replace(
        FINGERPRINT,
        engine_id=engine,
        precision=precision,
        span_threshold=threshold,
        span_gap_seconds=gap,
        version=version,
        model=model,
        hash_content=hash_content,
        defaults=defaults,
    )
    return row_key(identity, row, fingerprint=fingerprint)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=DECIDES, second=DECIDES, rests=st.tuples(REST, REST))
def test_keys_are_equal_where_all_that_decides_is(first, second, rests):
    keys = [key_of(one, rest) for one, rest in zip((first, second), rests, strict=True)]
    assert keys[0] == key_of(first, rests[1])  # what decides nothing changes no key
    assert (keys[0] == keys[1]) == (first == second)
    assert all(len(key) == 64 for key in keys)


def test_keys_stay_the_same_from_release_to_release():
    """A change here makes every run of before unfit to be resumed: let it be on purpose."""
    row = make_row(VIDEO, "Wo?", top_k=8)
    fingerprint = dataclasses.replace(FINGERPRINT, version="0.1.0")
    options = (
        r"{\"sample_fps\": 1.0, \"sampling\": \"eval\", \"seek\": \"exact\", "
        r"\"selector\": \"topk\", \"top_k\": 8}"
    )
    text = (
        f'["row", "sha256 0", "Wo?", "{options}", "{"e" * 64}", "videoitg", "fp32", 0.5, 0.0, '
        '"0.1.0"]'
    )
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert row_key("sha256 0", row, fingerprint=fingerprint) == expected


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    return path


def identity(place, *, hash_content=False):
    return find_video(str(place), hash_content=hash_content).identity


def test_a_local_file_is_told_by_path_size_and_time(video):
    first = identity(video)
    assert find_video(str(video), hash_content=False).num_bytes == 3
    assert identity(video.parent / "." / "a.mp4") == first == identity(f"file://{video}")
    os.utime(video, ns=(0, 1))
    assert identity(video) != first
    other = video.with_name("b.mp4")
    other.write_bytes(b"abc")
    os.utime(other, ns=(0, 1))
    assert identity(other) != identity(video)


def test_content_is_told_by_itself(video):
    first = identity(video, hash_content=True)
    other = video.with_name("b.mp4")
    other.write_bytes(b"abc")
    assert identity(other, hash_content=True) == first
    fsspec.filesystem("memory").pipe("/c.mp4", b"abc")
    assert identity("memory://c.mp4", hash_content=True) == first
    video.write_bytes(b"abd")
    assert identity(video, hash_content=True) != first


def test_a_remote_file_without_etag_is_told_by_size_and_time():
    memory = fsspec.filesystem("memory")
    memory.pipe("/a.mp4", b"abc")
    first = identity("memory://a.mp4")
    assert identity("memory://a.mp4") == first
    memory.pipe("/a.mp4", b"abc")
    assert identity("memory://a.mp4") != first


def test_a_remote_file_is_told_by_its_etag(monkeypatch):
    memory = fsspec.filesystem("memory")
    facts = {"type": "file", "size": 3, "ETag": '"1"', "LastModified": "today"}
    monkeypatch.setattr(type(memory), "info", lambda self, path: facts)
    first = find_video("memory://a.mp4", hash_content=False)
    assert first.num_bytes == 3
    facts["LastModified"] = "tomorrow"
    assert identity("memory://a.mp4") == first.identity
    facts["ETag"] = '"2"'
    assert identity("memory://a.mp4") != first.identity


def test_a_video_that_is_not_there(tmp_path):
    for place in (f"{tmp_path}/none.mp4", "memory://none.mp4"):
        with pytest.raises(MediaError, match="there is no video at"):
            identity(place)
    with pytest.raises(MediaError, match="not a regular file"):
        identity(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot read the video"):
        identity(tmp_path / "file" / "below")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MediaError, match="not a regular file"):
        identity(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    for place in (tmp_path / ("x" * 5000), tmp_path / "circle"):
        with pytest.raises(MediaError, match="cannot read the video"):
            identity(place)


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_store_that_does_not_answer(monkeypatch, kind):
    def fail(self, path):
        raise kind("no route to host")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", fail)
    with pytest.raises(UnavailableError, match="no route to host"):
        identity("memory://a.mp4")


@pytest.mark.parametrize("hash_content", [True, False])
def test_a_video_that_changed_is_refused(video, hash_content):
    before = identity(video, hash_content=hash_content)
    require_unchanged(str(video), before)
    video.write_bytes(b"abcd")
    with pytest.raises(MediaError, match="has changed since the run was planned"):
        require_unchanged(str(video), before)
