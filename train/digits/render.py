"""Pictures of a world, MP4 files of them, and what each patch of a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.digits.handwritten import GLYPH_SIDE, glyphs
from train.digits.world import NUM_DIGITS, SIDE, Event, World

VIDEO_FPS = 2
"""Frames a second of the files: half of them are never sampled, as in real videos."""

NO_DIGIT = NUM_DIGITS
NUM_PLACES = 4
"""Each patch tells x and y of its digit's centre: from the patch, in half glyphs, and from the
middle of the picture, in half pictures; zeros where there is none."""
_CORE = 0.8
"""A patch shows a digit when its centre lies in the middle of the glyph, this share of its side."""
_DARKEST, _BRIGHTEST = 20.0, 110.0  # of a background


def render_second(world: World, second: float) -> NDArray[np.uint8]:
    """Return uint8 (SIDE, SIDE, 3): the world at a time, later events in front."""
    # A copy, or each digit would stay on the background that is cached.
    frame = _background(world.background_seed).copy()
    for event in world.shown(int(second)):
        _draw(frame, world, event, second)
    return frame.round().clip(0, 255).astype(np.uint8)


def draw_scenes(scenes: Sequence[World], *, image_size: int) -> NDArray[np.uint8]:
    """Return uint8 (n, S, S, 3): the first second of each, resized as frames are."""
    size = (image_size, image_size)
    pictures = [Image.fromarray(render_second(scene, 0)) for scene in scenes]
    return np.stack([np.asarray(one.resize(size, Image.Resampling.BICUBIC)) for one in pictures])


@lru_cache(maxsize=16)
def _background(seed: int) -> NDArray[np.float32]:
    """Return float32 (SIDE, SIDE, 3): coloured clouds with grain, darker than any ink."""
    rng = np.random.default_rng(seed)
    clouds = (
        # Clouds of 32, 8 and 2 pixels; the shares add up to 1.
        _noise(rng, cells=4) * 0.6 + _noise(rng, cells=16) * 0.25 + _noise(rng, cells=64) * 0.15
    )
    return np.asarray(_DARKEST + (_BRIGHTEST - _DARKEST) * clouds, np.float32)


def write_video(world: World, path: Path) -> None:
    """Encode a world as H.264 in MP4, `VIDEO_FPS` frames for each of its seconds."""
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


def patch_classes(world: World, second: float, *, side: int) -> NDArray[np.int64]:
    """Return int64 (side, side): the digit that each patch shows, or `NO_DIGIT`."""
    classes = np.full((side, side), NO_DIGIT)
    for event in world.shown(int(second)):  # later events are in front
        covered, _ = _covered(event, second, side)
        classes[covered] = event.digit
    return classes


def patch_places(world: World, second: float, *, side: int) -> NDArray[np.float32]:
    """Return float32 (side, side, 4), see `NUM_PLACES`."""
    places = np.zeros((side, side, NUM_PLACES), np.float32)
    for event in world.shown(int(second)):
        # As in `patch_classes`: what is in front overwrites what is behind.
        covered, distance = _covered(event, second, side)
        centre = (np.array(event.position(second)) + GLYPH_SIDE / 2) / SIDE * 2 - 1
        places[covered, :2] = distance[covered]
        places[covered, 2:] = centre
    return places


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


def _covered(
    event: Event, second: float, side: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    x, y = event.position(second)
    half = GLYPH_SIDE / 2
    # Of the patches, in pixels of the video; distances are in half glyphs.
    centres = (np.arange(side) + 0.5) * SIDE / side
    dx, dy = np.meshgrid((x + half - centres) / half, (y + half - centres) / half)
    distance = np.stack([dx, dy], axis=-1).astype(np.float32)
    return np.abs(distance).max(-1) < _CORE, distance
