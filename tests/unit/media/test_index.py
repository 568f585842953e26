from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import VideoIndex
from tests.media_assets import (
    AUDIO_AND_VIDEO,
    COVER_ART,
    EDIT_LIST,
    GOP_FRAMES,
    H264,
    H264_TS,
    START_OFFSET,
    VFR,
    Asset,
)
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]


@pytest.fixture
def index_of(make_asset: MakeAsset) -> Callable[..., VideoIndex]:
    def index_of(asset: Asset, limits: Limits | None = None) -> VideoIndex:
        with reader_of(make_asset(asset), limits) as reader:
            return reader.index

    return index_of


def test_constant_rate(index_of: Callable[..., VideoIndex]) -> None:
    index = index_of(H264)
    assert index.num_source_frames == 72
    assert index.average_fps == 25
    assert (index.width, index.height) == (96, 64)
    assert (index.codec_name, index.container_name) == ("h264", "mov,mp4,m4a,3gp,3g2,mj2")
    np.testing.assert_allclose(index.pts_seconds, np.arange(72) / 25, rtol=0, atol=1e-9)
    assert index.duration_seconds == pytest.approx(72 / 25)
    assert np.flatnonzero(index.is_key).tolist() == list(range(0, 72, GOP_FRAMES))


@pytest.mark.parametrize("asset", [START_OFFSET, H264_TS, AUDIO_AND_VIDEO, COVER_ART])
def test_times_count_from_the_start_of_the_stream(
    asset: Asset, index_of: Callable[..., VideoIndex]
) -> None:
    index = index_of(asset)
    np.testing.assert_allclose(index.pts_seconds, np.arange(72) / 25, rtol=0, atol=1e-9)


def test_variable_rate_keeps_the_gap(index_of: Callable[..., VideoIndex]) -> None:
    index = index_of(VFR)  # frames 20..40 of 72 are missing
    shown = [i / 25 for i in range(72) if not 20 <= i <= 40]
    np.testing.assert_allclose(index.pts_seconds, shown, rtol=0, atol=1e-9)
    assert index.average_fps == pytest.approx(51 / 2.88)


def test_edit_list_hides_frames_before_its_start(index_of: Callable[..., VideoIndex]) -> None:
    index = index_of(EDIT_LIST)  # starts at frame 20, the next key packet is frame 24
    assert index.num_source_frames == 52
    np.testing.assert_allclose(index.pts_seconds, np.arange(52) / 25, rtol=0, atol=1e-9)
    assert np.flatnonzero(index.is_key).tolist() == [4, 16, 28, 40]


@pytest.mark.parametrize(
    ("asset", "limits", "message"),
    [
        (H264, Limits(max_duration_seconds=2), r"at most 2 s \(max_duration_seconds\), got 2.88 s"),
        (H264, Limits(max_side_pixels=95), r"1 to 95 pixels \(max_side_pixels\), got 96 x 64"),
        (H264, Limits(max_frame_pixels=6143), r"6143 pixels \(max_frame_pixels\), got 96 x 64"),
    ],
)
def test_limits(
    asset: Asset, limits: Limits, message: str, index_of: Callable[..., VideoIndex]
) -> None:
    with pytest.raises(MediaError, match=message):
        index_of(asset, limits)
