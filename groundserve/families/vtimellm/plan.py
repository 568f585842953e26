"""Which frames of a video VTimeLLM sees: always as many, evenly spaced, with both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan, check_fixed_num_frames, units_of
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions


@dataclass(frozen=True, kw_only=True)
class VTimeLLMSpec:
    """What serving must know of the model; defaults are those of the published Vicuna one."""

    num_frames: int = 100
    """T, fixed; a shorter video has frames that repeat."""
    feature_width: int = 768
    """D, width of CLIP's projected class vector, of which a frame has one."""
    max_tokens: int | None = 4096
    """Visual and text tokens together: the positions of the decoder."""
    hidden_size: int = 4096
    end_token_id: int = 2
    antialias: bool = False
    """Whether frames are resized with a filter as wide as the step between pixels, as the
    reference does with a torchvision of 0.17 or later."""

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.num_frames


def plan_video(
    index: VideoIndex, options: AnswerOptions, spec: VTimeLLMSpec, limits: Limits = DEFAULT_LIMITS
) -> VideoPlan:
    """Sample the frames, each a unit of its own and one visual token.

    `time_range_seconds`, of which an answer's times are hundredths, is the clip, cut at the video's
    end, or the whole video.
    """
    options.check_known("clip_seconds", family="vtimellm")
    check_fixed_num_frames("vtimellm", spec.num_frames, limits)
    first, last = 0, index.num_source_frames - 1
    time_range_seconds = (0.0, index.duration_seconds)
    if options.clip_seconds is not None:
        first, last, time_range_seconds = _cut(index, *options.clip_seconds)
    frame_indices = sample_frames(first, last, num_frames=spec.num_frames)
    return VideoPlan(
        index=index,
        num_frames=spec.num_frames,
        frame_indices=frame_indices,
        units=units_of(frame_indices),
        num_visual_tokens=spec.num_frames,
        time_range_seconds=time_range_seconds,
    )


def sample_frames(first: int, last: int, *, num_frames: int) -> NDArray[np.int64]:
    """Space ordinals evenly from `first` to `last`, both included, rounded down.

    They repeat where there are fewer frames in the range.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/mm_utils.py::VideoExtractor`.
    """
    return np.linspace(first, last, num_frames).astype(np.int64)


def _cut(index: VideoIndex, start: float, end: float) -> tuple[int, int, tuple[float, float]]:
    """Return first and last ordinal and the range in seconds; times are counted at average rate."""
    num_source_frames, duration_seconds = index.num_source_frames, index.duration_seconds
    # The smaller is taken before truncating, which a product past any integer would not survive.
    first = int(min(index.average_fps * start, num_source_frames))
    last = int(min(index.average_fps * end, num_source_frames - 1))
    if first == num_source_frames or start >= duration_seconds:
        length = min(num_source_frames / index.average_fps, duration_seconds)
        raise InvalidRequestError(
            f"clip_seconds must start before the video ends, at {length:g} s, got a start of "
            f"{start:g} s"
        )
    return first, last, (float(start), min(float(end), duration_seconds))
