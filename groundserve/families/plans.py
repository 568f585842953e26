"""What of a video is decoded, encoded and told: plans, and what they are made of; numpy alone.

Shape letters: T frames as sampled, n frames decoded, each once, U units, F frames of a unit,
P tokens of a unit.

A *unit* is what the vision stage encodes at a time and the cache keeps: a frame, or a segment of
several. One request goes index -> `Family.plan` -> decode each frame once, resized as each of the
`streams` says -> encode -> FEATURES (U, P, D) -> the family's head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.media.outputs import ResizeRule

VISUAL_TOKEN_ID = -200
"""In a prompt's ids, the place of the video's block or of a part of it; no vocabulary has it."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class FrameStream:
    """One input of the vision stage: frames of each unit, in one size.

    The array is uint8 (U, S, S, 3) where a unit has one frame of it, else (U, F, S, S, 3).
    """

    name: str
    """Name of the tensor, such as "PIXELS"."""
    size: int | None
    """S, side in pixels of the square frames; None: as decoded, resized in the encoder's graph."""
    resize: ResizeRule = "square"
    """How the media worker makes them so; "square", the default, where `size` is None."""
    frames: tuple[int, ...] = (0,)
    """Which frames of a unit, as places in it."""

    @property
    def frame_dims(self) -> tuple[int, int, int]:
        """Shape of one frame: (S, S, 3), or (-1, -1, 3) as decoded."""
        side = -1 if self.size is None else self.size
        return (side, side, 3)

    @property
    def unit_dims(self) -> tuple[int, ...]:
        """Shape of a unit's frames: `frame_dims`, or (F, S, S, 3)."""
        several = (len(self.frames),) if len(self.frames) > 1 else ()
        return (*several, *self.frame_dims)

    def shape(self, num_units: int) -> tuple[int, ...]:
        """Return the shape of the array for so many units, where `size` is fixed."""
        assert self.size is not None, "frames as decoded have no shape of their own"
        return (num_units, *self.unit_dims)


@dataclass(frozen=True, kw_only=True)
class PlanInput:
    """One more input of the vision stage or of a front: float32, from the plan."""

    name: str
    dims: tuple[int, ...]
    """Shape without the units; -1 varies between requests."""
    max_dims: tuple[int, ...]
    of_units: bool = False
    """Whether the array has the units in front, each with values of its own; else all units share
    one. Never of a front."""

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest there is."""
        return math.prod(self.max_dims) * np.dtype(np.float32).itemsize


@dataclass(frozen=True, kw_only=True)
class SeenVideo:
    """What a head of text must know of a video beside its FEATURES; fields as in `VideoPlan`."""

    duration_seconds: float
    """Length of the whole video."""
    num_visual_tokens: int
    """Rows of the video's block in the decoder's input."""
    time_range_seconds: tuple[float, float] | None
    """What the times in an answer are fractions of."""
    model_seconds: tuple[float, ...] | None
    """Time that the model is told of each of the T frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One question as the decoder reads it."""

    token_ids: NDArray[np.int64]
    """int64 (L,), its beginning token included, `VISUAL_TOKEN_ID` for the video's block. Of several
    such places each has an equal part of the block's rows, in order."""
    num_prefix: int
    """How many of the ids, from the front, are the same whatever is asked about this video with
    these options: the block is among them, and at least one id follows."""
    position_ids: NDArray[np.int64] | None = None
    """int64 (A, S), where the decoder is told that each of the S positions is, on each of A axes, a
    block's rows one by one; what is generated goes on behind the highest. None: they are counted.
    """

    @property
    def prefix_ids(self) -> NDArray[np.int64]:
        """What is computed once for all questions."""
        return self.token_ids[: self.num_prefix]

    @property
    def suffix_ids(self) -> NDArray[np.int64]:
        """What is computed for this one."""
        return self.token_ids[self.num_prefix :]

    @property
    def num_blocks(self) -> int:
        """Places of the video's block."""
        return int((self.token_ids == VISUAL_TOKEN_ID).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPlan:
    """What of one video is decoded and encoded for one request."""

    index: VideoIndex
    """What probing told of the whole video."""
    num_frames: int
    """Ceiling on T that held: the one asked for, else the default for this checkpoint."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals as the family samples them: never falling, repeats kept."""
    units: NDArray[np.int64]
    """int64 (U, F), the frames of each unit as places in `decoded_indices`, where each is
    shown by some unit; neither a row nor a column ever falls."""
    num_visual_tokens: int
    """Tokens that the decoder sees of the video: U * P, or fewer where a text head's front pools
    them."""
    inputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Array of each `PlanInput`, by name."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """What the family's INFO says beside what all say."""
    shift_seconds: float = 0.0
    """How far `seek: keyframe` moved a frame at most."""
    model_seconds: NDArray[np.float64] | None = None
    """float64 (T,), the time of each frame as the model is told it; None where it is told none."""
    time_range_seconds: tuple[float, float] | None = None
    """Start and end of what the times in an answer are fractions of; None where they are seconds
    of the video, or the answer has none."""

    def __post_init__(self) -> None:
        """Find a family's bug before anything is decoded, and never blame a request for it."""
        frames, units = self.frame_indices, self.units
        assert (frames.dtype.name, frames.ndim) == ("int64", 1), "frame_indices are int64 (T,)"
        assert (units.dtype.name, units.ndim) == ("int64", 2), "units are int64 (U, F)"
        assert min(frames.size, units.size) > 0, "a plan has frames"
        assert (np.diff(frames) >= 0).all(), "frames come in the order of time"
        assert 0 <= frames[0] <= frames[-1] < self.index.num_source_frames, "frames are the video's"
        for axis in (0, 1):
            assert (np.diff(units, axis=axis) >= 0).all(), "units come in the order of time"
        places = np.arange(len(self.decoded_indices))
        assert np.array_equal(np.unique(units), places), "units show all that is decoded"

    @property
    def decoded_indices(self) -> NDArray[np.int64]:
        """int64 (n,), strictly increasing: each ordinal of `frame_indices` once."""
        return np.unique(self.frame_indices)

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """float64 (T,), when each frame is shown."""
        return self.index.pts_seconds[self.frame_indices]

    @property
    def seen(self) -> SeenVideo:
        """What a head of text must know of it."""
        return SeenVideo(
            duration_seconds=self.index.duration_seconds,
            num_visual_tokens=self.num_visual_tokens,
            time_range_seconds=self.time_range_seconds,
            model_seconds=None if self.model_seconds is None else tuple(self.model_seconds),
        )


def units_of(frame_indices: NDArray[np.int64], *, frames_per_unit: int = 1) -> NDArray[np.int64]:
    """Divide the sampled frames, int64 (T,), into units of F that follow each other: (T / F, F)."""
    return np.unique(frame_indices, return_inverse=True)[1].reshape(-1, frames_per_unit)


def refuse_placeholder(query: str, placeholder: str) -> None:
    """Refuse a question that holds what stands for the video in a reference's prompts."""
    if placeholder in query:
        raise InvalidRequestError(
            f"QUERY must not contain the placeholder {placeholder}; remove it"
        )


def check_fixed_num_frames(family: str, num_frames: int, limits: Limits) -> None:
    """Check the ceiling on T for a family that samples as many frames of every video."""
    if num_frames > limits.max_num_frames:
        raise UnsupportedError(
            f"{family} samples {num_frames} frames of every video, and this server takes at most "
            f"{limits.max_num_frames}; its operator can raise max_num_frames"
        )
