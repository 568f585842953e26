"""Videos that nobody sent: for warm-up, shapes of plans, and comparing engines with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundserve.errors import MediaError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.plans import VideoPlan
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions, ScoreOptions

_SECONDS = 3600  # so long that a family samples as many frames as it does of any video
_FPS = 30


def default_plan(family: Family[Any, Any], spec: ModelSpec) -> VideoPlan:
    """Plan an hour of video with default options: the most units that a request without has.

    Where the family refuses so long a video, half of it is planned, and so on.
    """
    seconds = _SECONDS
    while seconds > 1:
        try:
            return _plan(family, _video(seconds * _FPS, fps=_FPS), spec)
        except MediaError:
            seconds //= 2
    return _plan(family, _video(_FPS, fps=_FPS), spec)


def short_plan(family: Family[Any, Any], spec: ModelSpec, num_frames: int) -> VideoPlan:
    """Plan a video of one frame a second with default options, which every family takes."""
    return _plan(family, _video(num_frames, fps=1), spec)


def _plan(family: Family[Any, Any], video: VideoIndex, spec: ModelSpec) -> VideoPlan:
    return family.plan(video, ScoreOptions() if family.head == "frames" else AnswerOptions(), spec)


def _video(num_frames: int, *, fps: int) -> VideoIndex:
    frames = np.arange(num_frames)
    return VideoIndex(
        average_fps=float(fps),
        pts_seconds=frames / fps,
        is_key=frames % fps == 0,
        # Where frames are as decoded, a stage that resizes them computes by it.
        width=640,
        height=360,
        codec_name="h264",
        container_name="mov,mp4,m4a,3gp,3g2,mj2",
    )
