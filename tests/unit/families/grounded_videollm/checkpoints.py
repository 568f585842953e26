"""Grounded-VideoLLM's two small checkpoints, and frames to look at."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from groundserve.families.grounded_videollm.checkpoint import Checkpoint
from groundserve.limits import Limits
from groundserve.media._resize import resize_short_side
from tests.support.grounded_cases import PARTS, formula_frames
from tests.unit.families.grounded_videollm.recorded import FOLDER

WEIGHTS = FOLDER / "weight_path"
FRAMES_OF_SEGMENT = 8


@cache
def opened(llm: str) -> Checkpoint:
    """Return one of the two, as the reference names its decoder."""
    return Checkpoint.open(WEIGHTS, parts=PARTS[llm])


def copied(directory: Path) -> Path:
    """Copy the weight folder, to be changed."""
    return shutil.copytree(WEIGHTS, directory / "weight_path")


def streams(frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return what the vision stage takes of frames uint8 (T, H, W, 3), 8 a segment."""
    limits = Limits()
    temporal = np.stack([resize_short_side(frame, 224, limits) for frame in frames])
    keys = frames[FRAMES_OF_SEGMENT // 2 :: FRAMES_OF_SEGMENT]
    spatial = np.stack([resize_short_side(frame, 336, limits) for frame in keys])
    return (
        torch.from_numpy(temporal.reshape(-1, FRAMES_OF_SEGMENT, *temporal.shape[1:])),
        torch.from_numpy(spatial),
    )


@cache
def formula_streams(num_segments: int) -> tuple[Tensor, Tensor]:
    """Return the first segments of the video that is computed."""
    return streams(formula_frames()[: num_segments * FRAMES_OF_SEGMENT])
