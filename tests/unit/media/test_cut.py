from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media._reader import PacketReader
from groundserve.media.outputs import FrameOutput
from tests.media_assets import (
    EDIT_LIST,
    H264_OPEN_GOP,
    H264_TS,
    HEVC_TS,
    LONG_GOP,
    MJPEG_AVI,
    VIDEOS,
    VP8_HIDDEN,
    Asset,
)
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
DecodeAsset = Callable[[Asset], list[NDArray[np.uint8]]]
Frames = NDArray[np.uint8]


def cut_and_decode(reader: PacketReader, frame_indices: list[int], num_threads: int = 1) -> Frames:
    segments = cut_segments(reader, np.array(frame_indices, np.int64))
    decoded = decode_segments(
        segments, [FrameOutput(image_size=None)], num_threads=num_threads, limits=Limits()
    )
    return decoded.outputs[0]


@pytest.mark.parametrize("asset", VIDEOS, ids=lambda asset: asset.name)
def test_each_frame_alone_equals_full_decode(
    asset: Asset, make_asset: MakeAsset, decode_asset: DecodeAsset
) -> None:
    expected = decode_asset(asset)
    # A frame costs all before it in its group: as many as meet each place in a group of 12, and
    # among the B-frames, whose pattern repeats every 4.
    step = 7 if asset is LONG_GOP else 5
    with reader_of(make_asset(asset)) as reader:
        assert reader.index.num_source_frames == asset.num_frames == len(expected)
        for i in [*range(0, asset.num_frames, step), asset.num_frames - 1]:
            np.testing.assert_array_equal(cut_and_decode(reader, [i])[0], expected[i], f"{i}")


@pytest.mark.parametrize("asset", VIDEOS, ids=lambda asset: asset.name)
def test_frame_sets_equal_full_decode(
    asset: Asset, make_asset: MakeAsset, decode_asset: DecodeAsset
) -> None:
    expected = decode_asset(asset)
    rng = np.random.default_rng(7)
    sizes = [2, 3, 5, 8, 13, 34, asset.num_frames]
    with reader_of(make_asset(asset)) as reader:
        for size in [size for size in sizes if size <= asset.num_frames]:
            chosen = sorted(rng.choice(asset.num_frames, size, replace=False).tolist())
            frames = cut_and_decode(reader, chosen, num_threads=2)
            np.testing.assert_array_equal(frames, [expected[i] for i in chosen])


@pytest.mark.parametrize("asset", [H264_OPEN_GOP, EDIT_LIST, VP8_HIDDEN, MJPEG_AVI])
def test_file_that_cannot_seek_is_read_from_the_start(
    asset: Asset,
    make_asset: MakeAsset,
    decode_asset: DecodeAsset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PacketReader, "_read_after_seek", lambda *_: None)
    expected = decode_asset(asset)
    with reader_of(make_asset(asset)) as reader:
        frames = cut_and_decode(reader, [3, 15, 20])
    np.testing.assert_array_equal(frames, [expected[i] for i in (3, 15, 20)])


def test_file_that_changed_meanwhile_fails(make_asset: MakeAsset, tmp_path: Path) -> None:
    path = tmp_path / "video"
    path.write_bytes(make_asset(H264_TS).read_bytes())
    with reader_of(path) as reader:
        path.write_bytes(make_asset(HEVC_TS).read_bytes())
        with pytest.raises(MediaError, match="packets differ from one reading to the next"):
            cut_segments(reader, np.array([40]))
