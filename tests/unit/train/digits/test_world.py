"""Worlds, their pictures, and the handwriting they show."""

import numpy as np

from train.digits.handwritten import SPLITS, glyphs, split_of_samples
from train.digits.world import NUM_DIGITS


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
