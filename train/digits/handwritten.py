"""The 1,797 handwritten digits of scikit-learn, split so that no sample is in two splits.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998 (CC BY 4.0),
the part that scikit-learn ships.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundserve import extras

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

GLYPH_SIDE = 40
"""Side in pixels of a digit in a video."""

# Never changed: a digit that trained a published checkpoint must not test it.
_SPLIT_SEED = 1998
_SHARES = (0.6, 0.2)  # of train and validation
# A pixel of the source counts the dark ones of a 4 x 4 block of the scan.
_SOURCE_MAXIMUM = 16.0


@cache
def glyphs(split: Split, digit: int) -> NDArray[np.float32]:
    """Return float32 (n, GLYPH_SIDE, GLYPH_SIDE) in [0, 1], the opacity of each sample's ink."""
    images, labels = _source()
    members = np.flatnonzero((labels == digit) & (split_of_samples() == SPLITS.index(split)))
    size = (GLYPH_SIDE, GLYPH_SIDE)
    pictures = [Image.fromarray(images[i]).resize(size, Image.Resampling.BICUBIC) for i in members]
    # Bicubic curves overshoot at edges, below 0 and above 1.
    return np.stack([np.asarray(picture, np.float32) for picture in pictures]).clip(0, 1)


@cache
def split_of_samples() -> NDArray[np.int64]:
    """Return int64 (1797,), the place in `SPLITS` of each sample of scikit-learn's order."""
    _, labels = _source()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    # What is neither of the others is test.
    place = np.full(len(labels), SPLITS.index("test"))
    num_train, num_validation = (int(share * len(labels)) for share in _SHARES)
    place[order[:num_train]] = SPLITS.index("train")
    place[order[num_train : num_train + num_validation]] = SPLITS.index("validation")
    return place


@cache
def _source() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    source = extras.load("sklearn.datasets", "train").load_digits()
    return source.images.astype(np.float32) / np.float32(_SOURCE_MAXIMUM), source.target
