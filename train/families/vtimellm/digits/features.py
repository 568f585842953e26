"""Videos that are drawn, and what the frozen tower makes of their frames.

Shape letters: n frames, T sampled frames, D features of a frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from groundserve.families.vtimellm.vision import VisionEncoder
from train.digits.handwritten import SPLITS, Split
from train.digits.render import render_second
from train.digits.world import World, make_world
from train.families.vtimellm.digits.dialogues import sample_seconds


def draw_world(split: Split, seed: int, number: int, *, num_seconds: int) -> World:
    """Draw the world of a number, which no other one shares."""
    rng = np.random.default_rng([SPLITS.index(split), seed, number])
    return make_world(rng, split=split, num_seconds=num_seconds)


def encode_world(encoder: VisionEncoder, world: World) -> Tensor:
    """Return float16 (T, D) of the frames that serving samples of the world's video."""
    seconds = sample_seconds(world.num_seconds)
    unique = sorted(set(seconds))
    frames = torch.from_numpy(np.stack([render_second(world, second) for second in unique]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found: Tensor = encoder(frames)[:, 0]
    return found[[unique.index(second) for second in seconds]].half()
