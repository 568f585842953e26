"""The token grid: how many tokens a frame gets, and the pooling that makes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError


def grid_side(num_frames: int, *, vision_token_num: int, side: int) -> int:
    """Return the side g of the token grid that the T frames of a request share, at most `side`.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/model/multimodal_projector/mlp_proj.py::MLPProjector`, which fails inside the resize
    where this raises.
    """
    # The reference's own float arithmetic, not `math.isqrt`.
    grid = int((vision_token_num / num_frames) ** 0.5)
    if grid < 1:
        raise InvalidRequestError(
            f"{num_frames} sampled frames exceed the checkpoint's budget of {vision_token_num} "
            "visual tokens; ask for fewer frames"
        )
    return min(grid, side)


def pooling_weights(grid: int, *, side: int) -> NDArray[np.float32]:
    """Return float32 (g, side), the bilinear weights of one axis; they serve both.

    Pooling is point sampling between two neighbours (half-pixel centres, no antialiasing), so it
    is a product of two small matrices: `weights @ patches @ weights.T`. At g = side the weights
    are the identity, as the reference then skips its resize.

    Source: `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.
    """
    # float32 step by step, as PyTorch's kernel computes source positions.
    scale = np.float32(side) / np.float32(grid)
    centres = scale * (np.arange(grid, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    # As PyTorch clamps them; with g <= side none is below 0.
    centres = np.maximum(centres, np.float32(0))
    # (g,) patch at or before each centre, and the next one; at the border both are the last.
    low = np.minimum(centres.astype(np.int64), side - 1)
    high = np.minimum(low + 1, side - 1)
    fraction = centres - low.astype(np.float32)
    weights = np.zeros((grid, side), np.float32)
    rows = np.arange(grid)
    # +=, for low and high may be one patch, which then gets both shares.
    weights[rows, low] += np.float32(1) - fraction
    weights[rows, high] += fraction
    return weights
