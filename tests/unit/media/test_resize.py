"""The resize rules at their edges, against FFmpeg's program and Pillow's own crop."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media import ResizeRule, Segments
from groundserve.media._cut import cut_segments
from groundserve.media._decode import decode_segments
from groundserve.media._resize import FrameConverter, resize, resize_short_side
from groundserve.media.outputs import FrameOutput
from tests.media_assets import (
    H264,
    HEVC_422_TEN_BIT,
    MJPEG_AVI,
    ODD_SIZE,
    ROTATED,
    TEN_BIT,
    Asset,
)
from tests.media_assets.reading import reader_of

MakeAsset = Callable[[Asset], Path]
CutAsset = Callable[..., Segments]
LIMITS = Limits()
NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def decode(
    segments: Segments, image_size: int, resize: ResizeRule, limits: Limits = LIMITS
) -> NDArray[np.uint8]:
    return decode_segments(
        segments, [FrameOutput(image_size=image_size, resize=resize)], num_threads=1, limits=limits
    ).outputs[0]


def scaled_by_ffmpeg(path: Path, num_frames: int, image_size: int) -> NDArray[np.uint8]:
    """Let the program do it, which turns frames before its filters."""
    filters = f"scale={image_size}:{image_size}:flags=bilinear,format=rgb24"
    answer = subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)),
            *("-vf", filters, "-frames:v", str(num_frames), "-f", "rawvideo", "-"),
        ],
        check=True,
        capture_output=True,
    )
    return np.frombuffer(answer.stdout, np.uint8).reshape(num_frames, image_size, image_size, 3)


@pytest.mark.parametrize("image_size", [20, 224])
@pytest.mark.parametrize(
    "asset",
    [ODD_SIZE, TEN_BIT, HEVC_422_TEN_BIT, MJPEG_AVI, ROTATED],
    ids=lambda asset: asset.name,
)
def test_bilinear_is_the_scale_filter_of_ffmpegs_program(
    asset: Asset, image_size: int, make_asset: MakeAsset, cut_asset: CutAsset
) -> None:
    frames = decode(cut_asset(asset, 0, 1, 2), image_size, "bilinear")
    np.testing.assert_array_equal(frames, scaled_by_ffmpeg(make_asset(asset), 3, image_size))


@pytest.mark.parametrize("size", ["1:64", "1:1", "130:4"])
def test_bilinear_of_sides_of_few_pixels(size: str, make_asset: MakeAsset) -> None:
    name = f"small_{size.replace(':', 'x')}.webm"
    codec = ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-frames:v", "2")
    path = make_asset(Asset(name=name, arguments=("-vf", f"scale={size}", *codec), num_frames=2))
    with reader_of(path) as reader:
        segments = cut_segments(reader, np.array([0, 1]))
    np.testing.assert_array_equal(decode(segments, 224, "bilinear"), scaled_by_ffmpeg(path, 2, 224))


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(31, 17, id="landscape"),
        pytest.param(17, 31, id="portrait"),
        pytest.param(2, 2, id="enlarged"),
        pytest.param(300, 1, id="one_pixel_high"),
    ],
)
# Odd and even, so that what is cut off is too: a half is rounded up and down.
@pytest.mark.parametrize("image_size", [8, 9])
def test_short_side_is_pillows_filter_and_the_middle(
    width: int, height: int, image_size: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    long_side = int(image_size * max(width, height) / min(width, height))
    start = round((long_side - image_size) / 2.0)
    if width < height:
        size, box = (image_size, long_side), (0, start, image_size, start + image_size)
    else:
        size, box = (long_side, image_size), (start, 0, start + image_size, image_size)
    whole = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop(box))
    np.testing.assert_array_equal(resize_short_side(pixels, image_size, LIMITS), expected)


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(NOISE, id="as_a_whole"),
        pytest.param(NOISE[:, :15], id="rows_with_padding"),
        pytest.param(np.rot90(NOISE), id="turned"),
    ],
)
def test_square_is_pillows_filter_however_the_pixels_lie(pixels: NDArray[np.uint8]) -> None:
    expected = Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(pixels, 8), np.asarray(expected))


@pytest.mark.parametrize("shape", [(16, 8192, 3), (8192, 16, 3)])
def test_frames_too_long_for_their_short_side_fail_before_they_are_resized(
    shape: tuple[int, int, int],
) -> None:
    with pytest.raises(MediaError, match=r"172032.* at most 35651584 pixels \(max_frame_pixels\)"):
        resize_short_side(np.zeros(shape, np.uint8), 336, LIMITS)


@pytest.mark.parametrize("resize", ["square", "short_side", "bilinear"])
def test_frames_may_change_their_look_amid_a_video(resize: ResizeRule, cut_asset: CutAsset) -> None:
    assets = [H264, ROTATED, ODD_SIZE, TEN_BIT, H264]  # turned, larger, of more bits, and back
    parts = [cut_asset(asset, 3) for asset in assets]
    counts = tuple(count for part in parts for count in part.stream.frame_counts)
    mixed = Segments.concatenate(
        [part.data.tobytes() for part in parts],
        [part.local_frames for part in parts],
        stream=replace(parts[0].stream, frame_counts=counts),
    )
    alone = [decode(part, 32, resize)[0] for part in parts]
    np.testing.assert_array_equal(decode(mixed, 32, resize), alone)


def converter(image_size: int) -> Callable[[VideoFrame], NDArray[np.uint8]]:
    output = FrameOutput(image_size=image_size, resize="bilinear")
    convert = FrameConverter([output], LIMITS)
    return lambda frame: next(convert(frame, [0]))[1]


@pytest.mark.parametrize(
    ("what", "value"), [("colorspace", Colorspace.ITU709), ("color_range", ColorRange.JPEG)]
)
def test_a_frame_that_names_no_colors_is_not_taken_to_have_those_of_the_one_before(
    what: str, value: Colorspace | ColorRange
) -> None:
    luma_and_chroma = np.random.default_rng(0).integers(0, 256, (48, 32), np.uint8)
    plain, named = (VideoFrame.from_ndarray(luma_and_chroma, format="yuv420p") for _ in range(2))
    setattr(named, what, value)

    frames = (plain, named, plain, named)
    alone = [converter(24)(frame) for frame in frames]
    assert not np.array_equal(alone[0], alone[1])
    convert = converter(24)
    np.testing.assert_array_equal([convert(frame) for frame in frames], alone)
