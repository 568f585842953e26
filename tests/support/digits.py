"""Held-out videos of MovingDigits as frames, never encoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.digits.dataset import draw_video
from train.digits.render import render_second

SEED = 20261121


def digits_video(image_size: int, *, num_frames: int = 48) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the first frames of 48, uint8 (T, S, S, 3), and questions."""
    world, questions = draw_video(np.random.default_rng((SEED, 0)), split="test", num_frames=48)
    pictures = [Image.fromarray(render_second(world, i)) for i in range(num_frames)]
    frames = np.stack([np.asarray(one.resize((image_size, image_size))) for one in pictures])
    return frames, [question.text for question in questions]
