"""Frames and clips of real videos: which frames they are, and when they are shown."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from groundserve.clips import clip_mp4, frame_jpegs
from groundserve.errors import DeadlineExceededError, InvalidRequestError, MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from tests.media_assets.whole_file import decode_whole_file

LIMITS = Limits()
NAMES = ("bikes", "rotated", "vfr")


@pytest.fixture(scope="module")
def workers():
    with MediaWorkers(limits=LIMITS) as workers:
        yield workers


def made(make, workers, path, *args, deadline=None, **options):
    with VideoSource.from_path(path, limits=LIMITS) as source:
        return make(workers, source, *args, deadline=deadline or Deadline.after(300), **options)


def times_of(path, workers):
    with (
        VideoSource.from_path(path, limits=LIMITS) as source,
        workers.open(source, deadline=Deadline.after(300)) as video,
    ):
        return video.index.pts_seconds


def decoded(file):
    with av.open(io.BytesIO(file)) as container:
        frames = list(container.decode(video=0))
    return [one.time for one in frames], [one.to_ndarray(format="rgb24") for one in frames]


def distance(one, other):
    return float(np.abs(one.astype(np.int16) - other[: len(one), : one.shape[1]]).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_has_the_frames_from_its_start_to_its_end(name, clips, workers):
    source, times = decode_whole_file(clips[name]), times_of(clips[name], workers)
    first, last = len(times) // 3, 2 * len(times) // 3
    between = (times[last] + times[last + 1]) / 2
    for start, end in ((times[first], times[last]), (times[first] + 1e-4, between)):
        shown, frames = decoded(made(clip_mp4, workers, clips[name], float(start), float(end)))
        assert len(frames) == last - first + 1
        np.testing.assert_allclose(shown, times[first : last + 1] - times[first], atol=1 / 90_000)
        assert shown[0] == 0
        for number in (0, len(frames) // 2, -1):
            ordinal = range(first, last + 1)[number]
            distances = [distance(one, frames[number]) for one in source]
            assert int(np.argmin(distances)) == ordinal
            assert distances[ordinal] < 6


def test_ends(clips, workers):
    path = clips["vfr"]
    times = times_of(path, workers)
    shown, _ = decoded(made(clip_mp4, workers, path, 0.0, 1e9))
    assert len(shown) == len(times)
    shown, _ = decoded(made(clip_mp4, workers, path, float(times[5]), float(times[5])))
    assert shown == [0]
    for start, end in ((1e9, 2e9), (2.0, 1.0), (-1.0, 1.0), (0.0, float("nan"))):
        with pytest.raises(InvalidRequestError, match="start"):
            made(clip_mp4, workers, path, start, end)


def test_a_clip_is_bounded(clips, workers, monkeypatch):
    monkeypatch.setattr("groundserve.clips.MAX_CLIP_BYTES", 1000)
    with pytest.raises(InvalidRequestError, match="takes more than 1000 bytes"):
        made(clip_mp4, workers, clips["vfr"], 0.0, 1.0)
    monkeypatch.setattr("groundserve.clips.MAX_CLIP_SECONDS", 0.5)
    with pytest.raises(InvalidRequestError, match=r"at most 0\.5 s"):
        made(clip_mp4, workers, clips["vfr"], 0.0, 1.0)
    with pytest.raises(DeadlineExceededError):
        made(clip_mp4, workers, clips["vfr"], 0.0, 0.1, deadline=Deadline.after(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_is_that_of_the_ordinal(name, clips, workers):
    source = decode_whole_file(clips[name])
    ordinals = (0, 7, len(source) - 1)
    files = made(frame_jpegs, workers, clips[name], ordinals)
    for ordinal, file in zip(ordinals, files, strict=True):
        picture = Image.open(io.BytesIO(file))
        assert picture.format == "JPEG"
        distances = [distance(one, np.asarray(picture)) for one in source]
        assert int(np.argmin(distances)) == ordinal
    small = made(frame_jpegs, workers, clips[name], [7], longest_side=32)[0]
    assert max(Image.open(io.BytesIO(small)).size) == 32
    for ordinal in (-1, len(source)):
        with pytest.raises(InvalidRequestError, match="frame_indices must be 0 to"):
            made(frame_jpegs, workers, clips[name], [ordinal])


def test_what_is_no_video_is_refused(tmp_path, workers):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(MediaError):
        made(clip_mp4, workers, tmp_path / "a.mp4", 0.0, 1.0)
