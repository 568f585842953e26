"""The PyTorch stages on a CPU, and what of their GPU path runs there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import pooling_weights
from python_backend.cuda import (
    _fused_attention,
    fused_kernels,
)
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder
from tests.support.reference import SET_1
from tests.support.rounding import in_float32

GRID = 4  # what the checkpoint gives 11 frames
IDS = np.array([7, 1, 30], np.int64)


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint.open(SET_1 / "videoitg-tiny")


@pytest.fixture
def frames(checkpoint: Checkpoint) -> np.ndarray:
    size = checkpoint.vision_config.image_size
    return np.random.default_rng(1).integers(0, 256, (11, size, size, 3), dtype=np.uint8)


@pytest.fixture
def pooling(checkpoint: Checkpoint) -> np.ndarray:
    return pooling_weights(GRID, side=checkpoint.vision_config.side)[None]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_load_in_16_bits_keeps_rotary_frequencies_and_scores_in_32(
    checkpoint, frames, pooling, dtype
):
    vision, grounding = checkpoint.load_vision(dtype=dtype), checkpoint.load_grounding(dtype=dtype)
    exact = TorchEncoder(checkpoint.load_vision()).encode(frames, pooling)

    features = TorchEncoder(vision).encode(frames, pooling)
    frame_logits = TorchGrounder(grounding).ground(features, IDS)

    assert {parameter.dtype for parameter in grounding.parameters()} == {dtype}
    assert grounding.decoder.rotary_emb.inv_freq.dtype == torch.float32
    assert np.abs(features - exact).max() / np.abs(exact).max() < 2e-2
    # Not rounded to 16 bits, where close frames tie.
    assert (torch.from_numpy(frame_logits).to(dtype).float().numpy() != frame_logits).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("key_heads", [6, 2], ids=["as many keys", "grouped keys"])
def test_fused_attention_is_full_softmax(dtype, key_heads):
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(2, 6, 9, 8, generator=generator).to(dtype)
    key, value = (torch.randn(2, key_heads, 9, 8, generator=generator).to(dtype) for _ in range(2))
    module = SimpleNamespace(num_key_value_groups=6 // key_heads)

    with fused_kernels():
        attended, _ = _fused_attention(module, query, key, value, None, scaling=0.3)

    def full_softmax(query, key, value):
        groups = module.num_key_value_groups  # query heads of a group follow each other
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
        return ((query @ key.mT * 0.3).softmax(-1) @ value).transpose(1, 2)

    expected, bound = in_float32(full_softmax, query.double(), key.double(), value.double())
    if dtype == torch.bfloat16:  # probabilities, which add up to 1, and the result are rounded
        bound += 2 * torch.finfo(dtype).eps / 2 * value.abs().max().item()
    np.testing.assert_allclose(attended.double().numpy(), expected, rtol=0, atol=bound)
