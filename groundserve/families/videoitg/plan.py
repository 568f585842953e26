"""Which frames of a video the options ask for, and how finely each is pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import DEFAULT_LIMITS, VideoPlan
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.sampling import sample_frames, snap_to_keyframes
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import ScoreOptions


@dataclass(frozen=True, kw_only=True)
class VideoITGSpec:
    """What serving must know of the model; read from the checkpoint's own config."""

    image_size: int
    """Side in pixels of the square frames the vision tower takes."""
    side: int
    """Patches along one side of such a frame."""
    vision_hidden_size: int
    """D_v, width of the pooled features."""
    vision_token_num: int
    """Budget of visual tokens, which fixes the grid for a given T."""
    max_tokens: int | None
    """Visual and text tokens together; None where the checkpoint's config sets no limit."""
    pad_token_id: int
    """Text positions with this id are dropped before embedding."""

    @property
    def feature_width(self) -> int:
        """Width of the pooled features."""
        return self.vision_hidden_size

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES."""
        return self.vision_token_num


POOLING_INPUT = "POOL"
"""Name of the vision stage's input with the pooling weights."""


def plan_video(
    index: VideoIndex, options: ScoreOptions, spec: VideoITGSpec, limits: Limits = DEFAULT_LIMITS
) -> VideoPlan:
    """Sample the frames, each a unit of its own; `facts` hold the grid's side g."""
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
