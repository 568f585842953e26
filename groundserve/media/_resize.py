"""Make RGB arrays of decoded frames, upright and of a model's size; see `outputs.ResizeRule`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from groundserve.errors import MediaError
from groundserve.limits import Limits
from groundserve.media.outputs import FrameOutput

_TRANSPOSES = ((), ("cclock",), ("clock", "clock"), ("clock",))
"""Directions of FFmpeg's `transpose` filters, by counterclockwise quarter turns."""


class FrameConverter:
    """Makes what outputs have of one frame after another; for one thread at a time.

    A frame is converted to RGB once, however many outputs resize it from there.
    """

    def __init__(self, outputs: Sequence[FrameOutput], limits: Limits) -> None:
        self._outputs = outputs
        self._limits = limits
        self._to_rgb = RgbConverter()
        self._filters = {
            number: _ScaleFilter(output.image_size)
            for number, output in enumerate(outputs)
            if output.image_size is not None and output.resize == "bilinear"
        }

    def __call__(
        self, frame: VideoFrame, numbers: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield places of outputs with uint8 (S, S, 3), RGB, or (H, W, 3) as decoded."""
        rgb: NDArray[np.uint8] | None = None
        for number in numbers:
            if number in self._filters:
                yield number, self._filters[number](frame)
                continue
            if rgb is None:
                rgb = self._to_rgb(frame)
            yield number, self._resize(rgb, self._outputs[number])

    def _resize(self, rgb: NDArray[np.uint8], output: FrameOutput) -> NDArray[np.uint8]:
        if output.image_size is None:
            return rgb
        if output.resize == "short_side":
            return resize_short_side(rgb, output.image_size, self._limits)
        return resize(rgb, output.image_size)


def quarter_turns(frame: VideoFrame) -> int:
    """Return the counterclockwise turns by 90 degrees that show the frame upright, 0 to 3."""
    # The file may ask for any angle; the nearest quarter turn is taken.
    return round(frame.rotation / 90) % 4


def resize(pixels: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) to (S, S, 3) with Pillow's bicubic filter; the aspect is not kept."""
    size = (image_size, image_size)
    return np.asarray(_to_image(pixels).resize(size, Image.Resampling.BICUBIC))


def resize_short_side(
    pixels: NDArray[np.uint8], image_size: int, limits: Limits
) -> NDArray[np.uint8]:
    """Resize the shorter side of (H, W, 3) to S with the same filter and cut out the middle."""
    height, width, _ = pixels.shape
    short = min(height, width)
    # torchvision truncates a quotient of doubles, which is this one at all sizes let in.
    new_height, new_width = (image_size * side // short for side in (height, width))
    if new_height * new_width > limits.max_frame_pixels:
        raise MediaError(
            f"the video's frames of {width} x {height} pixels are too long: with {image_size} on "
            f"the shorter side they are {new_width} x {new_height}, and may have at most "
            f"{limits.max_frame_pixels} pixels (max_frame_pixels)"
        )
    resized = _to_image(pixels).resize((new_width, new_height), Image.Resampling.BICUBIC)
    # torchvision rounds half to even, as Python does.
    left, top = (round((side - image_size) / 2) for side in resized.size)
    return np.asarray(resized.crop((left, top, left + image_size, top + image_size)))


def _to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    # `Image.fromarray` makes bytes of the array first; of one whose rows are padded, as FFmpeg's
    # are at a width of 854, element by element: longer than the resizing takes.
    height, width, _ = pixels.shape
    packed = np.ascontiguousarray(pixels)
    return Image.frombuffer("RGB", (width, height), packed, "raw", "RGB", 0, 1)


class RgbConverter:
    """FFmpeg's default scaler, which keeps its tables from one frame to the next."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Convert to RGB (H, W, 3) and apply the display rotation, as decord does."""
        # One thread: left to itself the scaler starts one a core for each frame.
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        pixels = rgb.to_ndarray().astype(np.uint8, copy=False)
        turns = quarter_turns(frame)
        return np.rot90(pixels, k=turns) if turns else pixels


class _ScaleFilter:
    """A chain of FFmpeg's filters, made anew where frames begin to look otherwise.

    Turning comes first, as in decord: where color is subsampled, turning last gives other pixels.
    So does `VideoFrame.reformat`, with any interpolation.
    """

    def __init__(self, image_size: int) -> None:
        self._image_size = image_size
        self._graph: Graph | None = None
        self._made_for: tuple[object, ...] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return uint8 (S, S, 3), RGB; MediaError where FFmpeg cannot, as 1 pixel to thousands."""
        look = (
            *(frame.width, frame.height, frame.format.name, quarter_turns(frame)),
            # Where a frame names none, FFmpeg's filter keeps those of the frame before.
            *(frame.colorspace, frame.color_range),
        )
        try:
            if self._graph is None or look != self._made_for:
                self._graph, self._made_for = self._make_graph(frame), look
            self._graph.vpush(frame)
            scaled = self._graph.vpull()
        # PyAV's MemoryError is an FFmpegError too: the worker words it.
        except MemoryError:
            raise
        except av.FFmpegError:
            raise MediaError(
                f"FFmpeg cannot scale the video's frames of {frame.width} x {frame.height} pixels "
                f"in {frame.format.name} to {self._image_size} x {self._image_size}"
            ) from None
        return scaled.to_ndarray().astype(np.uint8, copy=False)

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        # One a core would be for nothing, beside the decoder's, and take address space.
        graph.threads = 1
        size = f"{self._image_size}:{self._image_size}"
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(1, 1),  # of no meaning here, where a frame gives a frame
            ),
            *(graph.add("transpose", way) for way in _TRANSPOSES[quarter_turns(frame)]),
            # decord names no flags; without any, its FFmpeg is bilinear and ours is not.
            graph.add("scale", f"{size}:flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph
