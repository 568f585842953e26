from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import Segments
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media._file import CountedFile
from groundserve.media._resize import resize
from groundserve.media.outputs import FrameOutput
from tests.media_assets import (
    H264,
    MPEG4_AVI,
    MPEG4_MP4,
    ODD_SIZE,
    ROTATED,
    VP8_HIDDEN,
    VP9,
    Asset,
    asset_maker,
)
from tests.media_assets.h264_headers import without_vui
from tests.media_assets.reading import reader_of
from tests.media_assets.whole_file import decode_whole_file

MakeAsset = Callable[[Asset], Path]
DecodeAsset = Callable[[Asset], list[NDArray[np.uint8]]]


@pytest.fixture
def cut_asset(make_asset: MakeAsset) -> Callable[..., Segments]:
    def cut(asset: Asset, *frame_indices: int) -> Segments:
        with reader_of(make_asset(asset)) as reader:
            return cut_segments(reader, np.array(frame_indices))

    return cut


def decode(
    segments: Segments, image_size: int | None = None, threads: int = 1
) -> NDArray[np.uint8]:
    return decode_segments(
        segments, [FrameOutput(image_size=image_size)], num_threads=threads, limits=Limits()
    ).outputs[0]


def test_resize_is_pillows_bicubic() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize(pixels, 8), expected)


def test_resize_of_one_colour_is_that_colour() -> None:
    pixels = np.full((5, 9, 3), (1, 2, 3), np.uint8)
    assert np.all(resize(pixels, 4) == (1, 2, 3))


def test_frames_are_resized_after_rotation(
    cut_asset: Callable[..., Segments], decode_asset: DecodeAsset
) -> None:
    whole = decode_asset(ROTATED)[7]
    assert whole.shape == (96, 64, 3)
    frames = decode(cut_asset(ROTATED, 7), image_size=20)
    np.testing.assert_array_equal(frames[0], resize(whole, 20))


def test_rotated_frames_are_the_upright_ones_turned(
    cut_asset: Callable[..., Segments],
) -> None:
    upright, rotated = decode(cut_asset(H264, 30)), decode(cut_asset(ROTATED, 30))
    np.testing.assert_array_equal(rotated[0], np.rot90(upright[0]))


def test_threads_do_not_change_frames(cut_asset: Callable[..., Segments]) -> None:
    segments = cut_asset(H264, *range(H264.num_frames))
    np.testing.assert_array_equal(decode(segments, threads=4), decode(segments, threads=1))


@pytest.mark.parametrize("asset", [H264, VP9, VP8_HIDDEN], ids=lambda asset: asset.name)
@pytest.mark.parametrize("other", [-1, 1, 10**6])
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


def test_damaged_frame_fails_and_is_named(cut_asset: Callable[..., Segments]) -> None:
    cut = cut_asset(H264, 3, 14)
    data = cut.data.copy()
    middle = int(cut.offsets[1] + cut.offsets[2]) // 2
    data[middle - 200 : middle + 200] = 0xFF
    segments = replace(cut, data=data)
    with pytest.raises(MediaError, match="frame 1 of the 2 asked for does not decode"):
        decode(segments)


def test_frames_of_two_sizes_need_an_image_size(cut_asset: Callable[..., Segments]) -> None:
    parts = [cut_asset(H264, 3), cut_asset(ODD_SIZE, 3)]
    counts = tuple(count for part in parts for count in part.stream.frame_counts)
    mixed = Segments.concatenate(
        [part.data.tobytes() for part in parts],
        [part.local_frames for part in parts],
        stream=replace(parts[0].stream, frame_counts=counts),
    )
    assert decode(mixed, image_size=10).shape == (2, 10, 10, 3)
    with pytest.raises(MediaError, match="the video's frames differ in size"):
        decode(mixed)


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


@pytest.mark.parametrize("asset", [H264, MPEG4_MP4, MPEG4_AVI, VP8_HIDDEN, ROTATED])
def test_ffmpeg_probes_the_video_and_no_segment_of_it(
    asset: Asset, make_asset: MakeAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[object] = []
    av_open = av.open

    def spy(file: object, mode: str, **arguments: Any) -> Any:
        if mode == "r" and arguments["container_options"]["codec_whitelist"] != "none":
            probed.append(file)
        return av_open(file, mode, **arguments)

    monkeypatch.setattr(av, "open", spy)
    with reader_of(make_asset(asset)) as reader:
        segments = cut_segments(reader, np.arange(reader.index.num_source_frames))
    assert len(decode(segments)) == asset.num_frames
    assert [type(file) for file in probed] == [CountedFile]


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


def test_frames_past_the_side_limit_fail(cut_asset: Callable[..., Segments]) -> None:
    limits = Limits(max_side_pixels=95)
    with pytest.raises(MediaError, match="got 96 x 64"):
        decode_segments(
            cut_asset(H264, 3), [FrameOutput(image_size=8)], num_threads=1, limits=limits
        )
