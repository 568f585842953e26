"""What the vision stage of one model takes: its tensors' names, their order and their shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.errors import MediaError, UnsupportedError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.plans import FrameStream, PlanInput, VideoPlan
from groundserve.limits import MIB, Limits
from groundserve.media.index import VideoIndex

ArrayT = TypeVar("ArrayT", bound=Any)
"""numpy's or PyTorch's."""

CHUNK_BYTES = 128 * MIB
"""Most of a chunk whose frames are as decoded, which may be large; one alone has 107 MiB at 8K."""

_MAX_ASPECT = 64
"""Longer side of a frame as decoded to its shorter one. A graph that resizes the shorter side, and
keeps the aspect, makes pixels by the ratio: of 8192 x 1 some millions."""


@dataclass(frozen=True, kw_only=True)
class VisionInputs:
    """The inputs in the order in which every stage takes them: frames, then what is of the plan."""

    streams: tuple[FrameStream, ...]
    """The frames: each is decoded once and resized for the streams that show it. Frames as decoded
    come alone: one stream, one frame a unit."""
    plan_inputs: tuple[PlanInput, ...]

    @classmethod
    def of(cls, family: Family[Any, Any], spec: ModelSpec) -> Self:
        """Ask a family."""
        streams = family.streams(spec)
        taken = ", ".join(
            f"{one.name} ({one.size or 'any size'}, {len(one.frames)} a unit)" for one in streams
        )
        num_frames = sum(len(one.frames) for one in streams)
        if any(one.size is None for one in streams) and num_frames > 1:
            raise UnsupportedError(
                "frames as decoded must be the only stream, of one frame a unit; "
                f"the family {family.name} takes {taken}"
            )
        inputs = cls(streams=streams, plan_inputs=family.plan_inputs(spec))
        if inputs.frames_per_unit > CHUNK_FRAMES:
            raise UnsupportedError(
                f"a stream must have at most {CHUNK_FRAMES} frames a unit; "
                f"the family {family.name} takes {taken}"
            )
        return inputs

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return (*self.stream_names, *(one.name for one in self.plan_inputs))

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Names of the tensors that hold frames."""
        return tuple(one.name for one in self.streams)

    @property
    def are_as_decoded(self) -> bool:
        """Whether the vision stage resizes the frames."""
        return self.streams[0].size is None

    @property
    def frames_per_unit(self) -> int:
        """Frames of a unit in the stream that has most."""
        return max(len(one.frames) for one in self.streams)

    @property
    def max_units(self) -> int:
        """Units that are encoded at once at most: no stream has more frames than a chunk."""
        return CHUNK_FRAMES // self.frames_per_unit

    def unit_shapes(self, index: VideoIndex) -> tuple[tuple[int, ...], ...]:
        """Return the shape of a unit's frames in each stream, of a video that is not turned."""
        if self.are_as_decoded:
            return ((index.height, index.width, 3),)
        return tuple(one.unit_dims for one in self.streams)

    def chunk_frames(self, width: int, height: int) -> int:
        """Return how many frames of a video that announces this size are decoded at once."""
        if not self.are_as_decoded:
            return CHUNK_FRAMES
        return min(CHUNK_FRAMES, max(1, CHUNK_BYTES // (3 * width * height)))

    def chunk_units(self, width: int, height: int) -> int:
        """Return how many units of a video are encoded at once: those of as many frames."""
        return self.chunk_frames(width, height) // self.frames_per_unit

    def check_aspect(self, width: int, height: int) -> None:
        """Refuse frames that the vision stage would resize to many more pixels."""
        if self.are_as_decoded and max(width, height) > _MAX_ASPECT * min(width, height):
            raise MediaError(
                f"the longer side of the video's frames must be at most {_MAX_ASPECT} times the "
                f"shorter one, got {width} x {height}"
            )

    def of_plan(self, plan: VideoPlan) -> tuple[NDArray[np.float32], ...]:
        """Return the arrays of `plan_inputs`: (U, ...), or (1, ...) where all units share it."""
        return tuple(
            plan.inputs[one.name] if one.of_units else plan.inputs[one.name][np.newaxis]
            for one in self.plan_inputs
        )


def take_units(inputs: Sequence[ArrayT], units: slice | NDArray[np.int64]) -> list[ArrayT]:
    """Return what inputs have of some of U units; of one that all units share, that one."""
    return [one if len(one) == 1 else one[units] for one in inputs]


def max_chunk_bytes(stream: FrameStream, limits: Limits) -> int:
    """Return the most that a chunk's frames of one stream take, of any video that is let in."""
    if stream.size is None:
        return max(CHUNK_BYTES, 3 * limits.max_frame_pixels)
    # Decoded are that many frames at most, and encoded units of no more: `VisionInputs.max_units`.
    return CHUNK_FRAMES * math.prod(stream.frame_dims)
