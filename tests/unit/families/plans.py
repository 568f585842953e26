"""What tests of plans share: recorded vectors and videos that are an index alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from groundserve.media import VideoIndex
from tests.support.reference import REPOSITORY


def load_vectors(reference_set: str) -> list[dict[str, Any]]:
    """Read what is kept of a set."""
    path = REPOSITORY / "tests" / "fixtures" / reference_set / "plans.json"
    vectors: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return vectors


def label(vector: dict[str, Any]) -> str:
    return str(vector["names"][0])


def video(num_source_frames: int, average_fps: float = 25.0) -> VideoIndex:
    """A video of constant rate."""
    return VideoIndex(
        average_fps=average_fps,
        pts_seconds=np.arange(num_source_frames) / average_fps,
        is_key=np.arange(num_source_frames) == 0,
        width=64,
        height=48,
        codec_name="h264",
        container_name="mp4",
    )
