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
from groundserve.media import MediaWorkers, VideoSource
from tests.media_assets import (
    ALBUM,
    AUDIO_ONLY,
    FFV1,
    FLV,
    H264,
    H264_TS,
    VP9,
    Asset,
)

MakeAsset = Callable[[Asset], Path]
UNREADABLE = "the video cannot be read: it is damaged, or not one of mov, mp4, matroska"
FORBIDDEN = re.compile(r"/|0x[0-9a-f]{4}|returned \d|Errno|Traceback|memory file", re.IGNORECASE)


def open_and_get_error(
    data: bytes, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> str:
    """Return the refusal of a file, after checking that it names no path, address or library."""
    with (
        VideoSource.from_bytes(data, limits=limits) as source,
        pytest.raises(MediaError) as caught,
        workers.open(source, deadline=deadline),
    ):
        pass
    assert not FORBIDDEN.search(str(caught.value)), str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ffconcat version 1.0\nfile '{path}'\n", id="ffconcat"),
        pytest.param(
            "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{path}\n#EXT-X-ENDLIST\n", id="m3u8"
        ),
        pytest.param("{path}\n", id="text"),
    ],
)
def test_text_naming_another_file_is_refused(
    text: str, make_asset: MakeAsset, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    data = text.format(path=make_asset(H264_TS)).encode()
    assert open_and_get_error(data, workers, limits, deadline).startswith(UNREADABLE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0", id="one_byte"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(np.random.default_rng(0).bytes(100_000), id="noise"),
        pytest.param(b"\x1a\x45\xdf\xa3" + bytes(1000), id="only_magic_matroska"),
        pytest.param(b"RIFF\0\0\0\0AVI LIST", id="only_magic_avi"),
    ],
)
def test_garbage_is_refused(
    data: bytes, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    open_and_get_error(data, workers, limits, deadline)


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        (AUDIO_ONLY, "the file has no video stream"),
        (ALBUM, "the file has no video stream"),
        (FFV1, "codec must be one of .* got ffv1"),
        (FLV, UNREADABLE),
    ],
    ids=lambda value: value.name if isinstance(value, Asset) else None,
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
    assert re.search(message, open_and_get_error(data, workers, limits, deadline))


def test_mp4_without_its_index_is_refused(
    make_asset: MakeAsset, workers: MediaWorkers, limits: Limits, deadline: Deadline
) -> None:
    data = make_asset(H264).read_bytes()
    half = data[: len(data) // 2]
    assert open_and_get_error(half, workers, limits, deadline).startswith(UNREADABLE)


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
