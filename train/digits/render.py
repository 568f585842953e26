"""Pictures of a world, and MP4 files of them."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.digits.handwritten import GLYPH_SIDE, glyphs
from train.digits.world import SIDE, Event, World

VIDEO_FPS = 2
"""Frames a second of the files: half of them are never sampled, as in real videos."""

_DARKEST, _BRIGHTEST = 20.0, 110.0


def render_second(world: World, second: float) -> NDArray[np.uint8]:
    """Return uint8 (SIDE, SIDE, 3): the world at a time, later events in front."""
    # A copy, or each digit would stay on the background that is cached.
    frame = background(world.background_seed).copy()
    for event in world.shown(int(second)):
        _draw(frame, world, event, second)
    return frame.round().clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def background(seed: int) -> NDArray[np.float32]:
    """Return float32 (SIDE, SIDE, 3): coloured clouds with grain, darker than any ink."""
    rng = np.random.default_rng(seed)
    clouds = (
        # Clouds of 32, 8 and 2 pixels; the shares add up to 1.
        _noise(rng, cells=4) * 0.6 + _noise(rng, cells=16) * 0.25 + _noise(rng, cells=64) * 0.15
    )
    return np.asarray(_DARKEST + (_BRIGHTEST - _DARKEST) * clouds, np.float32)


def write_video(world: World, path: Path) -> None:
    """Encode a world as H.264 in MP4, `VIDEO_FPS` frames for each of its seconds."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        # One tick a frame.
        stream.time_base = Fraction(1, VIDEO_FPS)
        # One thread: the same bytes on every machine.
        stream.options = {"preset": "veryfast", "crf": "20", "threads": "1", "g": "16"}
        for number in range(world.num_seconds * VIDEO_FPS):
            frame = av.VideoFrame.from_ndarray(render_second(world, number / VIDEO_FPS))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())  # what the encoder held back


def _draw(frame: NDArray[np.float32], world: World, event: Event, second: float) -> None:
    x, y = (round(edge) for edge in event.position(second))
    opacity = glyphs(world.split, event.digit)[event.sample][..., None]
    # A view, so += draws into the frame.
    place = frame[y : y + GLYPH_SIDE, x : x + GLYPH_SIDE]
    ink = 255 * np.array(event.colour, np.float32)
    place += opacity * (ink - place)


def _noise(rng: np.random.Generator, *, cells: int) -> NDArray[np.float32]:
    small = (rng.random((cells, cells, 3)) * 255).astype(np.uint8)
    large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / 255
