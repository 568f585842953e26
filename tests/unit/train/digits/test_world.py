"""Worlds, their pictures, and the handwriting they show."""

import numpy as np

from train.digits.handwritten import GLYPH_SIDE, SPLITS, glyphs, split_of_samples
from train.digits.render import background, render_second
from train.digits.world import NUM_DIGITS, make_scene


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


def test_a_picture_shows_ink_where_the_digit_is():
    scene = make_scene(np.random.default_rng(4), split="test")
    picture = render_second(scene, 0).astype(np.float32)
    changed = np.abs(picture - background(scene.background_seed)).max(-1) > 30
    for event in scene.events:
        x, y = (round(edge) for edge in event.position(0))
        assert changed[y : y + GLYPH_SIDE, x : x + GLYPH_SIDE].any()
        changed[y : y + GLYPH_SIDE, x : x + GLYPH_SIDE] = False
    assert not changed.any()
