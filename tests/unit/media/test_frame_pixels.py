"""The ceiling on pixels holds for what decodes, whatever a file or a caller says before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media.outputs import FrameOutput
from tests.media_assets import AV1, H264, Asset
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
LARGEST = Limits(max_frame_pixels=96 * 64)
# FFmpeg's own check leaves room for whole blocks: what is below that too is refused by it.
TOO_LARGE = [
    pytest.param(Limits(max_frame_pixels=96 * 64 - 1), id="by_us"),
    pytest.param(Limits(max_frame_pixels=1, max_side_pixels=100, max_num_frames=8), id="far_below"),
]


@pytest.mark.parametrize("asset", [H264, AV1], ids=lambda a: a.name)
@pytest.mark.parametrize("limits", TOO_LARGE)
def test_segments_given_directly_are_held_to_it(
    asset: Asset, limits: Limits, make_asset: MakeAsset
) -> None:
    with reader_of(make_asset(asset)) as reader:
        segments = cut_segments(reader, np.array([0, 5]))
    decoded = decode_segments(segments, [FrameOutput(image_size=8)], num_threads=2, limits=LARGEST)
    assert decoded.outputs[0].shape == (2, 8, 8, 3)
    with pytest.raises(MediaError, match="max_frame_pixels"):
        decode_segments(segments, [FrameOutput(image_size=8)], num_threads=2, limits=limits)
