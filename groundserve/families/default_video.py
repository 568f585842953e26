"""A usual video, for what is made ready before the first request: warm-up, shapes of plans."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundserve.families.base import FramesFamily, VideoPlan
from groundserve.media.index import VideoIndex
from groundserve.options import ScoreOptions

_SECONDS = 3600  # so long that a family samples as many frames as it does of any video
_FPS = 30


def default_plan(family: FramesFamily[Any, Any], spec: Any) -> VideoPlan:
    """Plan an hour of video with default options: the most units that a request without has.

    Args:
        family: Whose rules hold.
        spec: Of the model, the family's `spec_type`.
    """
    frames = np.arange(_SECONDS * _FPS)
    index = VideoIndex(
        average_fps=float(_FPS),
        pts_seconds=frames / _FPS,
        is_key=frames % _FPS == 0,
        width=1920,
        height=1080,
        codec_name="h264",
        container_name="mov,mp4,m4a,3gp,3g2,mj2",
    )
    return family.plan(index, ScoreOptions(), spec)
