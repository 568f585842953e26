"""How the gates of both heads compare engines with PyTorch, and how far these may be from it."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.engines.profiles import Device, Precision
from groundserve.errors import EngineMismatchError

MAX_CPU_UNITS = 8
"""Units of a request that PyTorch encodes on a CPU, of all that the engine does: as fast as the
engine it is not, and a unit's features are its own. The grounding stage gets them all."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest errors that an engine may have; see `Check.error`."""

    feature_error: float
    logit_error: float


# float32 against float32: only the order of additions differs. With 16 bits, PyTorch on a CPU is
# off by up to 1.7e-2 and 9e-3 (bf16), 2.4e-3 and 2.1e-3 (fp16) on the small checkpoints here; a
# mask or a norm in the wrong place, by 0.1 and more.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(feature_error=1e-3, logit_error=1e-3),
    "bf16": Tolerance(feature_error=5e-2, logit_error=5e-2),
    "fp16": Tolerance(feature_error=1e-2, logit_error=1e-2),
    # What int8 may cost a checkpoint: 7e-3 to 5e-2 on those here. What it does cost is computed in
    # PyTorch, and engines are held to that. Grounding is in float32.
    "int8": Tolerance(feature_error=1e-1, logit_error=1e-3),
    # Of the decoder alone, whose engine is held to the same roundings in PyTorch.
    "int4": Tolerance(feature_error=1e-3, logit_error=1e-3),
}


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
    gc.collect()
    if device == "cuda":
        extras.torch.cuda.empty_cache()


def relative_error(got: NDArray[Any], expected: NDArray[np.float32], *, floor: float) -> float:
    """Return the largest difference over the largest magnitude expected, or `floor` if higher."""
    check_shape(got, expected)
    return float(np.abs(got - expected).max() / max(floor, np.abs(expected).max()))


def check_shape(got: NDArray[Any], expected: NDArray[np.float32]) -> None:
    """Refuse an engine's output of another shape with an EngineMismatchError."""
    if got.shape != expected.shape:
        raise EngineMismatchError(
            f"an engine gave an output of shape {got.shape} where PyTorch has {expected.shape}; "
            "the engine directory must not be served"
        )
