"""The vision stage with its last layer computed only where pooling reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from groundserve.families.videoitg.config import VisionConfig
from groundserve.families.videoitg.grid import pooling_weights
from groundserve.families.videoitg.vision import VisionEncoder

SIDE = 7
CONFIG = VisionConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=4 * SIDE,
    patch_size=4,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = VisionEncoder(CONFIG, select_layer=-1).eval().requires_grad_(False).double()
    model.config._attn_implementation = "sdpa"
    return model


def frames():
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8))


def pool_of(grid):
    """Of two frames whose rows differ: the second is read from the other side."""
    weights = torch.from_numpy(pooling_weights(grid, side=SIDE)).double()
    return torch.stack([weights, weights.flip(1)])


def dense(pool):
    """Reads more rows than any grid's, in the second frame; a client may send such weights."""
    pool[1] = torch.linspace(-1, 1, pool[1].numel(), dtype=pool.dtype).view_as(pool[1]) + 2
    return pool


@pytest.mark.parametrize("weigh", [lambda pool: pool, dense, torch.neg, torch.zeros_like])
@pytest.mark.parametrize("grid", [1, 3, SIDE])
def test_what_is_not_read_does_not_reach_the_features(model, grid, weigh):
    pool = weigh(pool_of(grid))
    whole = model(frames(), pool)
    sizes = []
    model.layers[-1].mlp.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape))
    model.leave_out_unread()
    part = model(frames(), pool)
    # The same sums, in another order in float64: of some hundred terms of size 1.
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)
    num_rows = max(1, int((pool != 0).flatten(0, 1).any(dim=0).sum()))
    assert sizes == [(2, num_rows**2, 32)]
