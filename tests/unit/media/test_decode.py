from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import Segments
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media.outputs import FrameOutput
from tests.media_assets import (
    GOP_FRAMES,
    H264,
    VP8_HIDDEN,
    Asset,
    asset_maker,
)
from tests.media_assets.h264_headers import without_vui
from tests.media_assets.reading import reader_of
from tests.media_assets.whole_file import decode_whole_file

MakeAsset = Callable[[Asset], Path]


def decode(
    segments: Segments, image_size: int | None = None, threads: int = 1
) -> NDArray[np.uint8]:
    return decode_segments(
        segments, [FrameOutput(image_size=image_size)], num_threads=threads, limits=Limits()
    ).outputs[0]


@pytest.mark.parametrize(("asset", "other"), [(H264, -1), (VP8_HIDDEN, 10**6)])
def test_other_number_of_frames_than_announced_fails(
    asset: Asset, other: int, cut_asset: Callable[..., Segments]
) -> None:
    cut = cut_asset(asset, 3, 14)
    decode(cut)
    first, *rest = cut.stream.frame_counts
    segments = replace(
        cut,
        local_frames=np.zeros_like(cut.local_frames[: len(rest) + 1]),
        local_offsets=np.arange(len(rest) + 2),
        stream=replace(cut.stream, frame_counts=(first + other, *rest)),
    )
    with pytest.raises(MediaError, match=f"does not hold the {first + other} frames announced"):
        decode(segments)


def test_several_frames_larger_than_announced_are_refused_before_memory_is_taken(
    cut_asset: Callable[..., Segments],
) -> None:
    segments = cut_asset(H264, 3, 4)  # of 96 x 64
    small = replace(segments, stream=replace(segments.stream, width=95))
    assert decode(small, image_size=10).shape == (2, 10, 10, 3)
    with pytest.raises(MediaError, match="differ in size from what it announces: 96 x 64 pixels"):
        decode(small)
    one = cut_asset(H264, 3)
    assert decode(replace(one, stream=replace(one.stream, width=95))).shape == (1, 64, 96, 3)


@pytest.mark.parametrize("params", ["bframes=3:b-pyramid=normal", "bframes=8:b-adapt=0"])
@pytest.mark.parametrize("threads", [1, 2])
def test_h264_that_does_not_say_how_far_frames_are_reordered(
    params: str, threads: int, tmp_path: Path
) -> None:
    """Its decoder needs that of the container, before the first frame."""
    arguments = ("-frames:v", "48", "-c:v", "libx264", "-x264-params", f"keyint=24:{params}")
    path = asset_maker(tmp_path)(Asset(name="plain.mp4", arguments=arguments, num_frames=48))
    whole = decode_whole_file(path)
    path.write_bytes(without_vui(path.read_bytes()))
    with reader_of(path) as reader:
        for frame_indices in (range(48), range(0, 48, 5), [1], [30]):
            segments = cut_segments(reader, np.array(frame_indices))
            np.testing.assert_array_equal(
                decode(segments, threads=threads), [whole[i] for i in frame_indices]
            )


def test_damage_in_several_segments_names_the_first_target(
    cut_asset: Callable[..., Segments],
) -> None:
    segments = cut_asset(H264, *range(5, H264.num_frames, GOP_FRAMES))
    data = segments.data.copy()
    for i in (4, 1, 2):
        middle = int(segments.offsets[i] + segments.offsets[i + 1]) // 2
        data[middle - 200 : middle + 200] = 0xFF
    with pytest.raises(MediaError, match="frame 1 of the 6 asked for does not decode"):
        decode_segments(
            replace(segments, data=data),
            [FrameOutput(image_size=8)],
            num_threads=3,
            limits=Limits(),
        )
