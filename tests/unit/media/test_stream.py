from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundserve.media import StreamInfo
from groundserve.media._cut import cut_segments
from tests.media_assets import (
    H264,
    ROTATED_VP8,
    VP8_HIDDEN,
    VP9,
    Asset,
)
from tests.media_assets.reading import reader_of

FIELDS: dict[str, Any] = {
    "codec_name": "vp9",
    "pixel_format": "yuv420p10le",
    "width": 640,
    "height": 272,
    "rotation": 270,
    "frame_counts": (30, 12),
}


@pytest.mark.parametrize(
    ("asset", "frame_indices", "expected"),
    [
        (H264, [0, 12], ("h264", "yuv420p", 96, 64, 0, (1, 1))),
        (ROTATED_VP8, [0, 5], ("vp8", "yuv420p", 96, 64, 270, (6,))),
        (VP9, [3, 14, 71], ("vp9", "yuv420p", 96, 64, 0, (4, 3, 12))),
        (VP8_HIDDEN, [39], ("vp8", "yuv420p", 96, 64, 0, (40,))),
    ],
    ids=lambda value: value.name if isinstance(value, Asset) else None,
)
def test_cut_tells_what_decoding_gives(
    asset: Asset,
    frame_indices: list[int],
    expected: tuple[Any, ...],
    make_asset: Callable[[Asset], Path],
) -> None:
    with reader_of(make_asset(asset)) as reader:
        segments = cut_segments(reader, np.array(frame_indices))
    assert segments.stream == StreamInfo(**dict(zip(FIELDS, expected, strict=True)))
    assert StreamInfo.from_json(segments.stream.to_json()) == segments.stream
