"""Arrays with two homes: numpy in host memory, torch where a stage left them on the GPU.

A stage takes either and answers where it computed, so frames and features stay on the GPU from one
stage to the next and cross to the host only where something there reads them (the cache, logits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundserve import extras

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "NDArray[Any] | torch.Tensor"


def to_host(array: Array) -> NDArray[Any]:
    """Return the array as numpy, copied only where it lies on a GPU."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def to_torch(array: Array, device: torch.device) -> torch.Tensor:
    """Return the array as a tensor on a device, copied only where it lies elsewhere."""
    tensor = extras.torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    return tensor.to(device)


def is_finite(array: Array) -> bool:
    """Tell whether no value is NaN or infinite, wherever they lie."""
    return bool((np.isfinite(array) if isinstance(array, np.ndarray) else array.isfinite()).all())


def empty(shape: tuple[int, ...], *, like: Array) -> Array:
    """Return an array to be filled, with the home and dtype of another."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_empty(shape)


def copy(array: Array) -> Array:
    """Return the array in memory of its own, where it lies."""
    return array.copy() if isinstance(array, np.ndarray) else array.clone()


def concatenate(parts: Sequence[Array]) -> Array:
    """Join arrays along their first dimension, on the GPU where one of them lies there.

    One alone is returned as it is.
    """
    if len(parts) == 1:
        return parts[0]
    # Parts of one chunk may have two homes: where NVDEC decoded one, and the CPU what NVDEC could
    # not.
    devices = [part.device for part in parts if not isinstance(part, np.ndarray)]
    if not devices:
        return np.concatenate(parts)
    return extras.torch.cat([to_torch(part, devices[0]) for part in parts])
