"""What the frozen tower makes of the frames of a drawn video.

Shape letters: n frames, T sampled frames, D features of a frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from groundserve.families.vtimellm.vision import VisionEncoder
from train.digits.answers.training import fast_precision
from train.digits.render import render_second
from train.digits.world import World
from train.families.vtimellm.digits.dialogues import SECONDS


def encode_world(encoder: VisionEncoder, world: World) -> Tensor:
    """Return float16 (T, D) of the frames that serving samples of the world's video."""
    unique = sorted(set(SECONDS))
    frames = torch.from_numpy(np.stack([render_second(world, second) for second in unique]))
    with torch.no_grad(), fast_precision():
        found: Tensor = encoder(frames)[:, 0]
    return found[[unique.index(second) for second in SECONDS]].half()
