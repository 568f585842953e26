"""Worlds, their pictures, and the handwriting they show."""

import numpy as np
import pytest

from train.digits.handwritten import GLYPH_SIDE, SPLITS, glyphs, split_of_samples
from train.digits.patches import NO_DIGIT, patch_classes
from train.digits.render import background, render_second
from train.digits.world import NUM_DIGITS, SIDE, make_scene, make_world


def test_every_sample_is_in_one_split():
    sizes = [len(glyphs(split, digit)) for split in SPLITS for digit in range(NUM_DIGITS)]
    assert sum(sizes) == len(split_of_samples()) == 1797
    assert min(sizes) >= 20


def test_the_split_never_changes():
    """A published checkpoint is tested on what it was not trained on."""
    assert np.bincount(split_of_samples()).tolist() == [1078, 359, 360]
    assert split_of_samples()[:12].tolist() == [2, 1, 0, 0, 2, 0, 0, 2, 0, 0, 2, 0]


def test_no_handwriting_of_the_test_split_is_in_training():
    for digit in range(NUM_DIGITS):
        train = {glyph.tobytes() for glyph in glyphs("train", digit)}
        assert not train & {glyph.tobytes() for glyph in glyphs("test", digit)}


@pytest.mark.parametrize("num_seconds", [8, 16, 48])
def test_worlds_stay_in_view(num_seconds):
    rng = np.random.default_rng(1)
    for _ in range(40):
        world = make_world(rng, split="train", num_seconds=num_seconds)
        firsts = [event.first for event in world.events]
        assert firsts == sorted(set(firsts))
        for event in world.events:
            assert event.last < num_seconds
            for moment in (event.first, event.last + 0.99):
                assert all(0 <= edge <= SIDE - GLYPH_SIDE for edge in event.position(moment))


def test_motion_moves_the_picture():
    rng = np.random.default_rng(3)
    world = make_world(rng, split="test", num_seconds=48)
    event = next(e for e in world.events if e.motion in ("left", "right"))
    x, y = event.position(event.first)
    later_x, later_y = event.position(event.first + 1)
    assert y == later_y
    assert (later_x - x > 0) == (event.motion == "right")
    assert abs(later_x - x) == pytest.approx(event.speed)


def test_a_picture_shows_ink_where_the_digit_is():
    scene = make_scene(np.random.default_rng(4), split="test")
    picture = render_second(scene, 0).astype(np.float32)
    changed = np.abs(picture - background(scene.background_seed)).max(-1) > 30
    for event in scene.events:
        x, y = (round(edge) for edge in event.position(0))
        assert changed[y : y + GLYPH_SIDE, x : x + GLYPH_SIDE].any()
        changed[y : y + GLYPH_SIDE, x : x + GLYPH_SIDE] = False
    assert not changed.any()


def test_patches_know_their_digit():
    scene = make_scene(np.random.default_rng(6), split="test")
    classes = patch_classes(scene, 0, side=16)
    front = scene.events[-1]  # nothing is in front of it
    x, y = (int((edge + GLYPH_SIDE / 2) / SIDE * 16) for edge in front.position(0))
    assert classes[y, x] == front.digit
    assert (classes == NO_DIGIT).sum() > 100
