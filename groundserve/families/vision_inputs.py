"""What the vision stage of one model takes: its tensors' names, their order and their shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MediaError, UnsupportedError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.plans import FrameStream, PlanInput, VideoPlan
from groundserve.limits import MIB, Limits
from groundserve.manifest import CHUNK_FRAMES
from groundserve.media.index import VideoIndex

CHUNK_BYTES = 128 * MIB
"""Most of a chunk whose frames are as decoded, which may be large; one alone has 107 MiB at 8K."""

_MAX_ASPECT = 64
"""Longer side of a frame as decoded to its shorter one. A graph that resizes the shorter side, and
keeps the aspect, makes pixels by the ratio: of 8192 x 1 some millions."""


@dataclass(frozen=True, kw_only=True)
class VisionInputs:
    """The inputs in the order in which every stage takes them: frames, then what is of the plan."""

    stream: FrameStream
    """The frames: a decoder resizes each in one way, or leaves all as decoded."""
    plan_inputs: tuple[PlanInput, ...]
    """The others."""

    @classmethod
    def of(cls, family: Family[Any, Any], spec: ModelSpec) -> Self:
        """Ask a family.

        Args:
            family: Whose vision stage it is.
            spec: Of the model, the family's `spec_type`.

        Raises:
            UnsupportedError: It takes several streams, or units of several frames as decoded.
        """
        streams = family.streams(spec)
        if len(streams) != 1 or (streams[0].size is None and len(streams[0].frames) > 1):
            taken = ", ".join(f"{one.name} ({one.size or 'any size'})" for one in streams)
            raise UnsupportedError(
                "one stream of frames is decoded, of one frame a unit where it has no fixed size; "
                f"the family {family.name} takes {taken}"
            )
        return cls(stream=streams[0], plan_inputs=family.plan_inputs(spec))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return (self.stream.name, *(one.name for one in self.plan_inputs))

    @property
    def unit_dims(self) -> tuple[int, ...]:
        """Shape of a unit's frames: (S, S, 3), (F, S, S, 3), or (-1, -1, 3) as decoded."""
        return (-1, -1, 3) if self.stream.size is None else self.stream.shape(1)[1:]

    def shape(self, num_units: int, index: VideoIndex) -> tuple[int, ...]:
        """Return the shape of the frames of so many units of a video that is not turned."""
        if self.stream.size is None:
            return (num_units, index.height, index.width, 3)
        return self.stream.shape(num_units)

    def chunk_frames(self, width: int, height: int) -> int:
        """Return how many frames of a video are decoded, and units encoded, at once.

        Args:
            width: Pixels of its frames, as it announces them.
            height: The same.
        """
        if self.stream.size is not None:
            return CHUNK_FRAMES
        return min(CHUNK_FRAMES, max(1, CHUNK_BYTES // (3 * width * height)))

    def check_aspect(self, width: int, height: int) -> None:
        """Refuse frames that the vision stage would resize to many more pixels.

        Raises:
            MediaError: They are as decoded, and one side is far longer than the other.
        """
        if self.stream.size is None and max(width, height) > _MAX_ASPECT * min(width, height):
            raise MediaError(
                f"the longer side of the video's frames must be at most {_MAX_ASPECT} times the "
                f"shorter one, got {width} x {height}"
            )

    def check_frames(self, shape: tuple[int, ...], limits: Limits) -> None:
        """Check frames as decoded, which a caller of an inner model may make up.

        Args:
            shape: Of the array of frames; the server has checked it against `unit_dims`.
            limits: Ceilings on a frame.

        Raises:
            InvalidRequestError: A side is 0 or past a ceiling, or far longer than the other, or
                there are more than a chunk has.
        """
        if self.stream.size is not None:
            return
        num_frames, height, width, _ = shape
        longest = max(height, width)
        if not 1 <= min(height, width) <= longest <= limits.max_side_pixels:
            raise InvalidRequestError(
                f"sides of {self.stream.name} must be 1 to {limits.max_side_pixels}, got {shape}"
            )
        if height * width > limits.max_frame_pixels:
            raise InvalidRequestError(
                f"a frame of {self.stream.name} must have at most {limits.max_frame_pixels} "
                f"pixels, got {shape}"
            )
        self.check_aspect(width, height)
        if num_frames > (most := self.chunk_frames(width, height)):
            raise InvalidRequestError(
                f"{self.stream.name} must have at most {most} frames of {width} x {height} pixels, "
                f"got {num_frames}"
            )

    def of_plan(self, plan: VideoPlan) -> tuple[NDArray[np.float32], ...]:
        """Return the arrays of `plan_inputs` for one request."""
        return tuple(plan.inputs[one.name] for one in self.plan_inputs)


def max_chunk_bytes(stream: FrameStream, limits: Limits) -> int:
    """Return the most that a chunk's frames of one stream take, of any video that is let in."""
    if stream.size is None:
        return max(CHUNK_BYTES, 3 * limits.max_frame_pixels)
    return math.prod(stream.shape(CHUNK_FRAMES))
