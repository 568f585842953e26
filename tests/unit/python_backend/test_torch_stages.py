"""The PyTorch stages on a CPU, and what of their GPU path runs there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.grid import pooling_weights
from python_backend.cuda import (
    FUSED_ATTENTION,
    _fused_attention,
    fused_kernels,
    use_fused_attention,
)
from python_backend.encode import TorchEncoder
from python_backend.ground import TorchGrounder
from tests.exact import open_float64
from tests.reference import SET_1
from tests.rounding import in_float32

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


def test_encode_takes_frames_as_numpy_and_as_tensor(checkpoint, frames, pooling):
    encoder = TorchEncoder(checkpoint.load_vision())

    features = encoder.encode(frames, pooling)

    assert isinstance(features, np.ndarray)
    assert features.dtype == np.float32
    assert features.shape == (len(frames), GRID * GRID, checkpoint.config.mm_hidden_size)
    assert np.array_equal(features, encoder.encode(torch.from_numpy(frames), pooling))


def test_encode_of_more_frames_than_run_at_once_keeps_their_order(checkpoint, frames, pooling):
    encoder = TorchEncoder(checkpoint.load_vision())

    features = encoder.encode(frames, pooling)

    alone = [encoder.encode(frame[None], pooling)[0] for frame in frames]
    expected, bound = in_float32(open_float64(SET_1 / "videoitg-tiny").features, frames)
    np.testing.assert_allclose(features, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(np.stack(alone), expected, rtol=0, atol=bound)
    # Frames differ, so order shows.
    assert np.abs(expected[0] - expected[-1]).max() > 100 * bound


def test_ground_takes_features_as_numpy_and_as_tensor(checkpoint, frames, pooling):
    features = TorchEncoder(checkpoint.load_vision()).encode(frames, pooling)
    grounder = TorchGrounder(checkpoint.load_grounding())

    frame_logits = grounder.ground(features, IDS)

    assert frame_logits.dtype == np.float32
    assert frame_logits.shape == (len(frames),)
    assert np.array_equal(frame_logits, grounder.ground(torch.from_numpy(features), IDS))


def test_stages_on_a_cpu_leave_attention_as_it_is(checkpoint):
    vision, grounding = checkpoint.load_vision(), checkpoint.load_grounding()

    TorchEncoder(vision)
    TorchGrounder(grounding)

    assert vision.config._attn_implementation == "eager"
    assert grounding.decoder.config._attn_implementation == "sdpa"
    assert not vision.patches_as_matmul


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


def test_fused_attention_refuses_a_mask():
    heads = torch.zeros(1, 1, 2, 8)
    with pytest.raises(AssertionError, match="attention is full"):
        _fused_attention(torch.nn.Identity(), heads, heads, heads, heads, scaling=1.0)


def test_fused_kernels_excludes_the_plain_one_and_restores_it():
    with fused_kernels():
        assert not torch.backends.cuda.math_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.math_sdp_enabled()


def test_models_with_fused_attention_compute_the_same(checkpoint, frames, pooling):
    vision, grounding = checkpoint.load_vision(), checkpoint.load_grounding()
    features = TorchEncoder(vision).encode(frames, pooling)
    frame_logits = TorchGrounder(grounding).ground(features, IDS)

    use_fused_attention(vision.config)
    use_fused_attention(grounding.decoder.config)

    assert vision.config._attn_implementation == FUSED_ATTENTION
    with fused_kernels():
        fused_features = TorchEncoder(vision).encode(frames, pooling)
        fused_logits = TorchGrounder(grounding).ground(features, IDS)
        changed = TorchGrounder(grounding).ground(features, IDS + np.array([0, 0, 1]))
    exact = open_float64(SET_1 / "videoitg-tiny")
    expected, bound = in_float32(exact.features, frames)
    for one in (features, fused_features):
        np.testing.assert_allclose(one, expected, rtol=0, atol=bound)
    expected, bound = in_float32(exact.logits, features.astype(np.float64), IDS)
    np.testing.assert_allclose(frame_logits, expected, rtol=0, atol=bound)
    expected, bound = in_float32(exact.logits, fused_features.astype(np.float64), IDS)
    np.testing.assert_allclose(fused_logits, expected, rtol=0, atol=bound)
    assert changed[0] != fused_logits[0]  # the last text token reaches the first frame


def test_layers_with_fused_attention_are_one_graph_for_any_length(checkpoint):
    model = checkpoint.load_grounding()
    use_fused_attention(model.decoder.config)
    width = checkpoint.config.mm_hidden_size
    inputs = [torch.randn(2, length, width) for length in (4, 9)]
    ids = torch.from_numpy(IDS)
    with torch.inference_mode(), fused_kernels():
        expected = [model(features, ids) for features in inputs]
        for layer in model.decoder.layers:
            layer.compile(dynamic=True, fullgraph=True, backend="eager")
        for features, logits in zip(inputs, expected, strict=True):
            torch.testing.assert_close(model(features, ids), logits)
    torch._dynamo.reset()
