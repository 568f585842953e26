"""Plans of no family, by the ordinals that their units show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from groundserve.families.plans import VideoPlan
from groundserve.media import VideoIndex


def plan_of(*units: Sequence[int]) -> VideoPlan:
    """Return a plan whose units show these ordinals."""
    shown = np.array(units)
    # (n,), and each ordinal as a place there.
    decoded_indices, places = np.unique(shown, return_inverse=True)
    num_source_frames = decoded_indices[-1] + 1
    index = VideoIndex(
        average_fps=25.0,
        pts_seconds=np.arange(num_source_frames) / 25,
        is_key=np.arange(num_source_frames) == 0,
        width=30,
        height=20,
        codec_name="h264",
        container_name="mov",
    )
    return VideoPlan(
        index=index,
        num_frames=shown.size,
        frame_indices=np.sort(shown, axis=None),
        units=places.reshape(shown.shape),
        num_visual_tokens=len(shown),
    )


def frame_units(frame_indices: Sequence[int]) -> VideoPlan:
    """Return a plan in which each frame is a unit."""
    return plan_of(*([index] for index in frame_indices))


def with_keys(plan: VideoPlan, keys: Sequence[int]) -> VideoPlan:
    """Return the plan with key frames at these ordinals, instead of at 0 alone."""
    is_key = np.isin(np.arange(plan.index.num_source_frames), keys)
    return replace(plan, index=replace(plan.index, is_key=is_key))
