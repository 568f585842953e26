"""Which frames of a video Grounded-VideoLLM sees: the middles of equal intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.families.grounded_videollm.spec import GroundedVideoLLMSpec
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan, check_fixed_num_frames, units_of
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions


def plan_video(
    index: VideoIndex,
    options: AnswerOptions,
    spec: GroundedVideoLLMSpec,
    limits: Limits = DEFAULT_LIMITS,
) -> VideoPlan:
    """Sample the frames; a unit is a segment, F of them that follow each other.

    Returns:
        Its `time_range_seconds`, of which a time token is a fraction, is the reference's: frames
        by average rate, which is not `index.duration_seconds` where the rate varies.
    """
    options.check_known(family="grounded_videollm")
    check_fixed_num_frames("grounded_videollm", spec.num_frames, limits)
    frame_indices = sample_frames(index.num_source_frames, num_frames=spec.num_frames)
    return VideoPlan(
        index=index,
        num_frames=spec.num_frames,
        frame_indices=frame_indices,
        units=units_of(frame_indices, frames_per_unit=spec.frames_per_segment),
        num_visual_tokens=spec.max_feature_tokens,
        time_range_seconds=(0.0, index.num_source_frames / index.average_fps),
    )


def sample_frames(num_source_frames: int, *, num_frames: int) -> NDArray[np.int64]:
    """Take the middle of each of `num_frames` intervals, the earlier of two.

    Returns:
        int64 (num_frames,). Of a video with fewer frames each once, then the last again and again.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `mm_utils/video_utils.py`, mode `middle`, with
    the padding of `inference.py`.
    """
    num_intervals = min(num_frames, num_source_frames)
    bounds = np.linspace(0, num_source_frames, num_intervals + 1).astype(np.int64)
    middles = (bounds[:-1] + bounds[1:] - 1) // 2
    return np.pad(middles, (0, num_frames - num_intervals), mode="edge")
