"""Which frames of a video the options ask for, and how finely each is pooled."""

from __future__ import annotations

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.sampling import sample_frames, snap_to_keyframes
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import ScoreOptions

POOLING_INPUT = "POOL"
"""Name of the vision stage's input with the pooling weights."""


def plan_video(
    index: VideoIndex, options: ScoreOptions, spec: VideoITGSpec, limits: Limits = DEFAULT_LIMITS
) -> VideoPlan:
    """Sample the frames, each a unit of its own.

    Returns:
        Its `inputs` hold the pooling weights (g, s), its `facts` the grid's side g.
    """
    num_frames = options.most_frames(vision_token_num=spec.vision_token_num, limits=limits)
    frame_indices = sample_frames(
        index.num_source_frames,
        index.average_fps,
        sampling=options.sampling,
        sample_fps=options.sample_fps,
        num_frames=num_frames,
    )
    shift_seconds = 0.0
    if options.seek == "keyframe":
        frame_indices, shift_seconds = snap_to_keyframes(
            frame_indices, index.is_key, index.pts_seconds
        )
    # Each frame needs one token at least; `grid_side` has no grid smaller than 1.
    if len(frame_indices) > spec.vision_token_num:
        raise InvalidRequestError(
            f"num_frames must be at most {spec.vision_token_num}, this checkpoint's budget of "
            f"visual tokens, for a video that gives {len(frame_indices)} frames; got "
            f"{num_frames}. Without num_frames, as many are taken as fit"
        )
    # After snapping, which may leave fewer frames: g follows from the T that is scored.
    grid = grid_side(len(frame_indices), vision_token_num=spec.vision_token_num, side=spec.side)
    return VideoPlan(
        index=index,
        num_frames=num_frames,
        frame_indices=frame_indices,
        units=np.arange(len(frame_indices))[:, np.newaxis],
        num_visual_tokens=len(frame_indices) * grid**2,
        inputs={POOLING_INPUT: pooling_weights(grid, side=spec.side)},
        facts={"grid": grid},
        shift_seconds=shift_seconds,
    )
