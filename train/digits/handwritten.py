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

from groundserve.errors import MissingExtraError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

GLYPH_SIDE = 40
"""Side in pixels of a digit in a video."""

# Never changed: a digit that trained a published checkpoint must not test it.
_SPLIT_SEED = 1998
_TRAIN_SHARE, _VALIDATION_SHARE = 0.6, 0.2
# A pixel of the source counts the dark ones of a 4 x 4 block of the scan.
_SOURCE_MAXIMUM = 16.0


@cache
def glyphs(split: Split, digit: int) -> NDArray[np.float32]:
    """Return float32 (n, GLYPH_SIDE, GLYPH_SIDE) in [0, 1], the opacity of each sample's ink."""
    images, labels = _source()
    members = np.flatnonzero((labels == digit) & (split_of_samples() == SPLITS.index(split)))
    return np.stack([_enlarge(images[i]) for i in members])


@cache
def split_of_samples() -> NDArray[np.int64]:
    """Return int64 (1797,), the place in `SPLITS` of each sample of scikit-learn's order."""
    _, labels = _source()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    # What is neither of the others is test.
    place = np.full(len(labels), SPLITS.index("test"))
    num_train = int(_TRAIN_SHARE * len(labels))
    place[order[:num_train]] = SPLITS.index("train")
    place[order[num_train : num_train + int(_VALIDATION_SHARE * len(labels))]] = SPLITS.index(
        "validation"
    )
    return place


@cache
def _source() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("train", "scikit-learn") from error
    source = load_digits()
    return source.images.astype(np.float32) / np.float32(_SOURCE_MAXIMUM), source.target


def _enlarge(image: NDArray[np.float32]) -> NDArray[np.float32]:
    enlarged = Image.fromarray(image).resize((GLYPH_SIDE, GLYPH_SIDE), Image.Resampling.BICUBIC)
    # Bicubic curves overshoot at edges, below 0 and above 1.
    return np.asarray(enlarged, np.float32).clip(0, 1)
