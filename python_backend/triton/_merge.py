"""Merge the encode requests of one dynamic batch into as few encoder calls as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from python_backend.arrays import Array, concatenate
from python_backend.encode import EncodeFunction


@dataclass(frozen=True, eq=False)
class EncodeRequest:
    """Frames of one video, and the pooling that all of them share."""

    frames: Array
    """uint8 (n, S, S, 3)."""
    pooling: NDArray[np.float32]
    """float32 (g, s)."""

    @classmethod
    def from_batch(cls, frames: Array, pooling: NDArray[np.float32]) -> EncodeRequest:
        """Read the tensors PIXELS (n, S, S, 3) and POOL (n, g, s), g <= s.

        Raises:
            InvalidRequestError: n is 0, g > s, or the n pooling matrices are not all the same.
        """
        if len(frames) == 0:
            raise InvalidRequestError("PIXELS must hold at least one frame, got 0")
        _, grid, side = pooling.shape
        if not 1 <= grid <= side:
            raise InvalidRequestError(f"POOL must have 1..{side} rows, got {grid}")
        # POOL has one matrix a frame, so that Triton may merge requests along n; ours are equal
        # within a request.
        is_same = np.array_equal(pooling, np.broadcast_to(pooling[0], pooling.shape))
        if not is_same or not np.isfinite(pooling[0]).all():
            raise InvalidRequestError("POOL must be finite and the same for all frames")
        return cls(frames, pooling[0])


def encode_merged(requests: Sequence[EncodeRequest], encode: EncodeFunction) -> list[Array]:
    """Encode the frames of all requests with equal pooling in one call.

    Args:
        requests: Those of one dynamic batch that are valid.
        encode: As `VisionEncoder.encode`.

    Returns:
        One (n, g*g, D_v) a request, in their order.
    """
    # By content: g differs between videos of different T, and matrices of different shape or values
    # cannot be one call. Bytes tell shapes apart too: s is the model's, so their number gives g.
    same_pooling: dict[bytes, list[int]] = {}
    for i, request in enumerate(requests):
        same_pooling.setdefault(request.pooling.tobytes(), []).append(i)
    features: dict[int, Array] = {}
    for members in same_pooling.values():
        frames = [requests[i].frames for i in members]
        encoded = encode(concatenate(frames), requests[members[0]].pooling)
        start = 0
        for i, part in zip(members, frames, strict=True):
            # A view: nothing is copied until the tensor is handed over.
            features[i] = encoded[start : start + len(part)]
            start += len(part)
    return [features[i] for i in range(len(requests))]
