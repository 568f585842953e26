"""The decoded targets of segments on their way into the arrays of outputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import MediaError
from groundserve.media.outputs import FrameOutput


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """The targets of segments, and what they took."""

    outputs: tuple[NDArray[np.uint8], ...]
    """Of each output uint8 (k, S, S, 3), RGB, in the order of the targets; see `decode_segments`.
    """
    packets_decoded: int
    frames_converted: int
    """Frames made for outputs, all together: one that two outputs have counts twice."""


class Targets:
    """The targets of all segments, which threads write in any order."""

    def __init__(
        self, num_targets: int, outputs: Sequence[FrameOutput], *, most_pixels: int
    ) -> None:
        self._lock = threading.Lock()
        self._made = [_Output(output, num_targets, most_pixels=most_pixels) for output in outputs]
        self._missing = set(range(num_targets))
        self._num_targets = num_targets
        self._num_packets = 0

    def outputs_of(self, target: int) -> list[int]:
        """Return the places of the outputs that have a target."""
        return [number for number, made in enumerate(self._made) if target in made.rows]

    def put(self, target: int, output: int, pixels: NDArray[np.uint8]) -> None:
        """Store a target's frame for one output."""
        made = self._made[output]
        with self._lock:
            frames = made.frames_for(pixels)
        frames[made.rows[target]] = pixels

    def have(self, target: int) -> None:
        """Note that a target is stored for all of its outputs."""
        with self._lock:
            self._missing.remove(target)

    def add_packets(self, num_packets: int) -> None:
        """Count packets that were decoded."""
        with self._lock:
            self._num_packets += num_packets

    def to_decoded(self) -> Decoded:
        """Return all targets, once all threads are done."""
        if self._missing:
            raise MediaError(
                f"frame {min(self._missing)} of the {self._num_targets} asked for does not decode: "
                "the video is damaged there"
            )
        return Decoded(
            outputs=tuple(made.frames for made in self._made),
            packets_decoded=self._num_packets,
            frames_converted=sum(len(made.rows) for made in self._made),
        )


class _Output:
    """One array of frames."""

    def __init__(self, output: FrameOutput, num_targets: int, *, most_pixels: int) -> None:
        self.rows = {int(target): row for row, target in enumerate(output.places(num_targets))}
        self._size = output.image_size
        self._most_pixels = most_pixels
        self._frames: NDArray[np.uint8] | None = None

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 (k, S, S, 3), once all are stored."""
        if self._frames is None:
            assert self._size is not None, "frames as decoded are of all targets"
            return self._empty((self._size, self._size, 3))  # k is 0
        return self._frames

    def frames_for(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return where a frame is to be stored; the first one decides on the size.

        Raises:
            MediaError: Frames as decoded differ in size.
        """
        # Only a decoded frame tells H and W for certain, rotation included.
        if self._frames is None:
            self._check_size(pixels)
            self._frames = self._empty(pixels.shape)
        if pixels.shape != self._frames.shape[1:]:
            raise MediaError(
                "the video's frames differ in size, and are wanted as decoded: re-encode it in "
                "one size, or ask for an image_size"
            )
        return self._frames

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return np.empty((len(self.rows), *shape), np.uint8)

    def _check_size(self, pixels: NDArray[np.uint8]) -> None:
        height, width, _ = pixels.shape
        is_large = height * width > self._most_pixels
        if self._size is None and len(self.rows) > 1 and is_large:
            raise MediaError(
                f"the video's frames differ in size from what it announces: {width} x {height} "
                "pixels are more; re-encode it, or ask for one frame at a time"
            )
