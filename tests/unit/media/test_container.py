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
from tests.media_assets import H264, VP9, Asset
from tests.media_assets.crafted import LIES

MakeAsset = Callable[[Asset], Path]
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


def test_header_that_promises_millions_of_frames_takes_little_memory(
    make_asset: MakeAsset, limits: Limits, deadline: Deadline
) -> None:
    (crafted,) = (c for c in LIES if c.name == "ten_million_frames")
    data = crafted.make(make_asset(H264).read_bytes(), make_asset(H264))
    with MediaWorkers(limits=limits) as workers:
        read_and_get_error(data, workers, limits, deadline)
        status = Path(f"/proc/{workers.pids()[0]}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) / 1024 < 600


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
