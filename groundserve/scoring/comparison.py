"""What the gates of both heads compare engines with PyTorch by."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.profiles import Device
from groundserve.errors import EngineMismatchError

MAX_CPU_UNITS = 8
"""Units of a request that PyTorch encodes on a CPU, of all that the engine does: as fast as the
engine it is not, and a unit's features are its own. The grounding stage gets them all."""


def compared_units(num_units: int, device: Device) -> NDArray[np.int64]:
    """Return the ordinals of the units that PyTorch encodes, spread over all."""
    most = MAX_CPU_UNITS if device == "cpu" else num_units
    return np.linspace(0, num_units - 1, min(num_units, most)).round().astype(np.int64)


def fill_between(features: NDArray[np.float32], units: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the features of every unit, no two alike, from those of some."""
    place = np.interp(np.arange(units[-1] + 1), units, np.arange(len(units)))
    before = place.astype(np.int64)
    after = np.minimum(before + 1, len(units) - 1)
    part = (place - before).astype(np.float32)[:, None, None]
    filled: NDArray[np.float32] = features[before] * (1 - part) + features[after] * part
    return filled


def free_memory(device: Device) -> None:
    """Give back what models took that nobody holds any more."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def relative_error(got: NDArray[Any], expected: NDArray[np.float32], *, floor: float) -> float:
    """Return the largest difference over the largest magnitude expected, or `floor` if higher.

    Raises:
        EngineMismatchError: As `check_shape`.
    """
    check_shape(got, expected)
    return float(np.abs(got - expected).max() / max(floor, np.abs(expected).max()))


def check_shape(got: NDArray[Any], expected: NDArray[np.float32]) -> None:
    """Refuse an engine's output of another shape.

    Raises:
        EngineMismatchError: It has one.
    """
    if got.shape != expected.shape:
        raise EngineMismatchError(
            f"an engine gave an output of shape {got.shape} where PyTorch has {expected.shape}; "
            "the engine directory must not be served"
        )
