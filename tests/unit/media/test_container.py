"""What is refused, and that the refusal says nothing it should not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, OpenVideo, VideoSource
from tests.media_assets import H264, REFUSED, VP9, Asset
from tests.media_assets.crafted import CRAFTED, LIES, Crafted

MakeAsset = Callable[[Asset], Path]
UNREADABLE = "the video cannot be read: it is damaged, or not one of mov, mp4, matroska"
FORBIDDEN = re.compile(r"/|0x[0-9a-f]{4}|returned \d|Errno|Traceback|memory file", re.IGNORECASE)


def decode_ends(video: OpenVideo) -> None:
    last = video.index.num_source_frames - 1
    video.decode(video.cut(np.unique([0, last])), image_size=8)


def read_and_get_error(
    data: bytes, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> str:
    """Return the refusal of a file, after checking that it names no path, address or library."""
    with (
        VideoSource.from_bytes(data, limits=limits) as source,
        pytest.raises(MediaError) as caught,
        workers.open(source, deadline=deadline) as video,
    ):
        decode_ends(video)
    assert not FORBIDDEN.search(str(caught.value)), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("crafted", CRAFTED, ids=lambda crafted: crafted.name)
def test_crafted_files_give_frames_or_the_refusal(
    crafted: Crafted,
    make_asset: MakeAsset,
    workers: MediaWorkers,
    limits: Limits,
) -> None:
    path = make_asset(crafted.source)
    data = crafted.make(path.read_bytes(), path)
    deadline = Deadline.after(60)
    if crafted.refusal:
        assert re.search(crafted.refusal, read_and_get_error(data, workers, limits, deadline))
        return
    with (
        VideoSource.from_bytes(data, limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        assert video.decode(video.cut(np.array([0])), image_size=8).shape == (1, 8, 8, 3)


def test_header_that_promises_millions_of_frames_takes_little_memory(
    make_asset: MakeAsset, limits: Limits, deadline: Deadline
) -> None:
    (crafted,) = (c for c in LIES if c.name == "ten_million_frames")
    data = crafted.make(make_asset(H264).read_bytes(), make_asset(H264))
    with MediaWorkers(limits=limits) as workers:
        read_and_get_error(data, workers, limits, deadline)
        status = Path(f"/proc/{workers.pids()[0]}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) / 1024 < 600


@pytest.mark.parametrize(
    ("asset", "message"),
    REFUSED.items(),
    ids=lambda value: value.name if isinstance(value, Asset) else "",
)
def test_other_media_is_refused(
    asset: Asset,
    message: str,
    make_asset: MakeAsset,
    workers: MediaWorkers,
    limits: Limits,
    deadline: Deadline,
) -> None:
    data = make_asset(asset).read_bytes()
    assert re.search(message, read_and_get_error(data, workers, limits, deadline))


def test_mp4_without_its_index_is_refused(
    make_asset: MakeAsset, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    data = make_asset(H264).read_bytes()
    half = data[: len(data) // 2]
    assert read_and_get_error(half, workers, limits, deadline).startswith(UNREADABLE)


def test_webm_cut_short_has_the_frames_that_are_there(
    make_asset: MakeAsset, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    data = make_asset(VP9).read_bytes()
    with (
        VideoSource.from_bytes(data[: len(data) // 2], limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        assert 1 < video.index.num_source_frames < VP9.num_frames
        last = video.index.num_source_frames - 2
        assert video.decode(video.cut(np.array([0, last]))).shape == (2, 64, 96, 3)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_give_frames_or_a_typed_error(
    seed: int, make_asset: MakeAsset, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    rng = np.random.default_rng(seed)
    data = np.fromfile(make_asset(H264), np.uint8)
    data[rng.integers(48, len(data), size=len(data) // 50)] ^= 0xFF
    message = ""
    try:
        with (
            VideoSource.from_bytes(data, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            video.decode(video.cut(np.arange(video.index.num_source_frames)), image_size=8)
    except MediaError as error:
        message = str(error)
    assert not FORBIDDEN.search(message), message
