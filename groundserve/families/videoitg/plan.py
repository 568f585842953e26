"""Which frames of a video the options ask for, and how finely each is pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.sampling import sample_frames, snap_to_keyframes
from groundserve.limits import Limits
from groundserve.manifest import ModelSpec
from groundserve.media import VideoIndex
from groundserve.options import ScoreOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePlan:
    """What is decoded and encoded for one request."""

    index: VideoIndex
    """Of the whole video."""
    num_frames: int
    """Ceiling on T that held: the one asked for, else the default for this checkpoint."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals, increasing."""
    shift_seconds: float
    """How far `seek: keyframe` moved a frame at most."""
    grid: int
    """g, tokens along one side of a frame; it depends on T."""

    @classmethod
    def make(
        cls, index: VideoIndex, options: ScoreOptions, model: ModelSpec, limits: Limits
    ) -> FramePlan:
        """Sample the frames.

        Args:
            index: Of the whole video.
            options: `num_frames`, sampling and seeking; the selector is not used here.
            model: Of the engine that encodes.
            limits: Ceilings on T.

        Raises:
            InvalidRequestError: The sampling rule refuses this video's rate, or `num_frames` gives
                more frames than the checkpoint's budget has visual tokens.
        """
        num_frames = options.most_frames(vision_token_num=model.vision_token_num, limits=limits)
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
        if len(frame_indices) > model.vision_token_num:
            raise InvalidRequestError(
                f"num_frames must be at most {model.vision_token_num}, this checkpoint's budget of "
                f"visual tokens, for a video that gives {len(frame_indices)} frames; got "
                f"{num_frames}. Without num_frames, as many are taken as fit"
            )
        # After snapping, which may leave fewer frames: g follows from the T that is scored.
        grid = grid_side(
            len(frame_indices), vision_token_num=model.vision_token_num, side=model.side
        )
        return cls(
            index=index,
            num_frames=num_frames,
            frame_indices=frame_indices,
            shift_seconds=shift_seconds,
            grid=grid,
        )

    @property
    def num_visual_tokens(self) -> int:
        """T * g * g."""
        return len(self.frame_indices) * self.grid**2

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """float64 (T,), when each frame is shown."""
        return self.index.pts_seconds[self.frame_indices]
