"""Which frames of a video the options ask for, and how finely each is pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.grid import grid_side
from groundserve.manifest import ModelSpec
from groundserve.media import VideoIndex
from groundserve.options import ScoreOptions
from groundserve.sampling import sample_frames, snap_to_keyframes


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePlan:
    """What is decoded and encoded for one request."""

    index: VideoIndex
    """Of the whole video."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals, increasing."""
    shift_seconds: float
    """How far `seek: keyframe` moved a frame at most."""
    grid: int
    """g, tokens along one side of a frame; it depends on T."""

    @classmethod
    def make(cls, index: VideoIndex, options: ScoreOptions, model: ModelSpec) -> FramePlan:
        """Sample the frames.

        Raises:
            InvalidRequestError: The sampling rule refuses this video's rate.
        """
        frame_indices = sample_frames(
            index.num_source_frames,
            index.average_fps,
            sampling=options.sampling,
            sample_fps=options.sample_fps,
            num_frames=options.num_frames,
        )
        shift_seconds = 0.0
        if options.seek == "keyframe":
            frame_indices, shift_seconds = snap_to_keyframes(
                frame_indices, index.is_key, index.pts_seconds
            )
        grid = grid_side(
            len(frame_indices), vision_token_num=model.vision_token_num, side=model.side
        )
        return cls(index=index, frame_indices=frame_indices, shift_seconds=shift_seconds, grid=grid)

    @property
    def num_visual_tokens(self) -> int:
        """T * g * g."""
        return len(self.frame_indices) * self.grid**2

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """float64 (T,), when each frame is shown."""
        return self.index.pts_seconds[self.frame_indices]
