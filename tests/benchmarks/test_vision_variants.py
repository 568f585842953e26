"""Variants of the vision plan: the same function up to rounding, within bounds that can fail."""

from __future__ import annotations

import copy
import math

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.gpu import vision_variants
from benchmarks.gpu.models import Bench, fill_with_noise, relative_error
from benchmarks.gpu.report import NotRun
from benchmarks.gpu.size import SMALL
from benchmarks.gpu.vision_inputs import vision_inputs
from benchmarks.gpu.vision_variants import (
    VARIANTS,
    error_bound,
    make_variant,
    measure_vision_plan,
    measure_vision_variants,
    products_dtype,
    unit_roundoff,
)
from benchmarks.gpu_check import VISION_VARIANTS
from engine_build.onnx_tensorrt import export_mixed_vision_encoder
from groundserve.families.videoitg.config import VisionConfig
from groundserve.families.videoitg.vision import VisionEncoder

NUM_LAYERS = 3
# so400m's head size, a quarter of its heads and of its MLP; three pixels behind the last patch.
TOWER = VisionConfig(
    hidden_size=4 * 72,
    intermediate_size=4304 // 4,
    num_hidden_layers=NUM_LAYERS,
    num_attention_heads=4,
    image_size=9 * 14 + 3,
    patch_size=14,
)
# A sum of K terms in float32 errs by about sqrt(K) roundings, K at most 1,076.
FLOAT32_BOUND = math.sqrt(TOWER.intermediate_size) * unit_roundoff(torch.float32) * math.sqrt(7)


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        empty = VisionEncoder(TOWER, select_layer=-1)
    fill_with_noise(empty, dtype=torch.float32, device="cpu", seed=2)
    for layer in empty.encoder.layers:
        # Scores that matter: of small noise, the softmax is even whatever its scale.
        layer.self_attn.q_proj.weight.mul_(20)
    return empty


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)
    side = TOWER.image_size
    pixels = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)
    pixels[1] = pixels[1] // 8 + 200  # a bright frame, whose mean is far from grey
    return pixels, torch.rand(2, 3, TOWER.side, generator=generator)


@pytest.fixture(scope="module")
def expected(model, inputs):
    """Features in float64."""
    with torch.inference_mode():
        return copy.deepcopy(model).double()(*inputs)


def error_of(encoder, inputs, expected):
    with torch.inference_mode():
        return relative_error(encoder(*inputs), expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_in_float32_a_variant_computes_the_same_function(model, inputs, expected, name):
    encoder = make_variant(model, name, dtype=torch.float32)
    assert error_of(encoder, inputs, expected) < FLOAT32_BOUND


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_in_16_bit_a_variant_stays_within_its_bound(model, inputs, expected, name, dtype):
    error = error_of(make_variant(model, name, dtype=dtype), inputs, expected)
    assert 0 < error < error_bound(name, num_layers=NUM_LAYERS, dtype=dtype)


def test_bounds_grow_with_what_is_rounded():
    def bound(name, num_layers=26):
        return error_bound(name, num_layers=num_layers, dtype=torch.bfloat16)

    assert bound("as shipped") == bound("widths") == pytest.approx(math.sqrt(7) / 256)
    assert bound("patches") == pytest.approx(math.sqrt(7 + 2) / 256)
    assert bound("residual") == pytest.approx(math.sqrt(7 + 26) / 256)
    assert bound("all three") == pytest.approx(math.sqrt(7 + 26 + 2) / 256)
    assert bound("residual", num_layers=2) == pytest.approx(math.sqrt(7 + 2) / 256)


@pytest.mark.parametrize("name", ["widths", "all three"])
def test_padded_weights_have_round_sizes_and_zeros(model, name):
    layer = make_variant(model, name, dtype=torch.bfloat16).layers[0]
    assert layer.qkv.weight.shape == (3 * 4 * 80, 288)
    assert layer.out.weight.shape == (288, 4 * 80)
    assert (layer.up.weight.shape, layer.down.weight.shape) == ((1152, 288), (288, 1152))
    assert layer.qkv.bias.shape == (960,)
    assert layer.up.bias.shape == (1152,)
    assert layer.scale == 72**-0.5
    heads = layer.qkv.weight.unflatten(0, (12, 80))
    assert not heads[:, 72:].any()
    attention = model.encoder.layers[0].self_attn
    wanted = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    assert torch.equal(heads[:, :72].flatten(0, 1), wanted.to(torch.bfloat16))


def test_a_16_bit_residual_is_16_bit_between_layers(model, inputs):
    encoder = make_variant(model, "residual", dtype=torch.bfloat16)
    shipped = make_variant(model, "as shipped", dtype=torch.bfloat16)
    with torch.inference_mode():
        hidden = encoder.embed_patches(inputs[0])
        assert hidden.dtype == encoder.layers[0](hidden).dtype == torch.bfloat16
        assert shipped.layers[0](shipped.embed_patches(inputs[0])).dtype == torch.float32
        assert encoder(*inputs).dtype == torch.float16


def test_the_folded_projection_is_nearer_than_one_of_bytes(model, inputs):
    """Why bytes are centred, which 16 bits hold exactly, before the rest is folded."""
    shipped = make_variant(model, "as shipped", dtype=torch.float32)
    folded = make_variant(model, "patches", dtype=torch.bfloat16)
    weight = (shipped.patch_weight / 127.5).to(torch.bfloat16)
    offset = shipped.patch_bias - weight.float().sum(dim=1) * 127.5 + shipped.positions
    with torch.inference_mode():
        wanted = shipped.embed_patches(inputs[0])
        patches = shipped.cut_patches(inputs[0].to(torch.bfloat16))
        of_bytes = torch.nn.functional.linear(patches, weight).float() + offset
        error = relative_error(folded.embed_patches(inputs[0]), wanted)
    # Two roundings: of the weights and of the product.
    assert error < math.sqrt(2) * unit_roundoff(torch.bfloat16)
    assert relative_error(of_bytes, wanted) > 1.5 * error


def wrong_scale(encoder):
    for layer in encoder.layers:
        layer.scale = 80**-0.5


def no_offset(encoder):
    encoder.folded_offset = encoder.positions + encoder.patch_bias


def padded_in_the_wrong_place(encoder):
    """Zeros behind the last head, where they belong behind each."""
    for layer in encoder.layers:
        heads = layer.qkv.weight.unflatten(0, (3, 4, 80))[:, :, :72]
        moved = torch.cat([heads.reshape(3, 288, -1), torch.zeros(3, 32, 288)], dim=1)
        layer.qkv.weight = torch.nn.Parameter(moved.flatten(0, 1), requires_grad=False)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("widths", wrong_scale), ("patches", no_offset), ("widths", padded_in_the_wrong_place)],
)
def test_a_wrong_variant_is_far_outside(model, inputs, expected, name, fault):
    encoder = make_variant(model, name, dtype=torch.float32)
    fault(encoder)
    assert error_of(encoder, inputs, expected) > 20 * FLOAT32_BOUND


@pytest.mark.parametrize("name", VARIANTS)
def test_the_float32_graph_of_a_variant_equals_pytorch(model, inputs, expected, tmp_path, name):
    path = tmp_path / "vision.onnx"
    encoder = make_variant(model, name, dtype=torch.float32)
    export_mixed_vision_encoder(encoder, path, vision_inputs(encoder)[0])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels, pool = inputs
    (features,) = session.run(None, {"PIXELS": pixels.numpy(), "POOL": pool.numpy()})
    assert relative_error(features, expected) < FLOAT32_BOUND


def test_the_float16_graph_of_all_variants_runs_elsewhere_too(model, inputs, expected, tmp_path):
    """ONNX Runtime adds up in float16 on a CPU, so the bound is not the variant's."""
    path = tmp_path / "vision.onnx"
    encoder = make_variant(model, "all three", dtype=torch.float16)
    export_mixed_vision_encoder(encoder, path, vision_inputs(encoder)[0])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels, pool = inputs
    (features,) = session.run(None, {"PIXELS": pixels.numpy(), "POOL": pool.numpy()})
    assert features.dtype == np.float16
    assert relative_error(features, expected) < 1e-2


def test_making_a_variant_leaves_the_model_and_the_shipped_encoder_alone(model, inputs, expected):
    for name in VARIANTS:
        make_variant(model, name, dtype=torch.float32)
    shipped = make_variant(model, "as shipped", dtype=torch.float32)
    assert products_dtype(shipped) == torch.float32
    assert shipped.layers[0].qkv.weight.shape == (864, 288)
    assert error_of(shipped, inputs, expected) < FLOAT32_BOUND


def test_the_check_measures_every_variant_and_holds_it_against_its_bound(monkeypatch):
    assert tuple(VARIANTS) == VISION_VARIANTS
    monkeypatch.setattr(vision_variants, "time_call", lambda call, device, **_: call() is None)
    rows = measure_vision_variants(Bench(size=SMALL, device="cpu"))
    for name in VARIANTS:
        assert rows[name]["within_bound"], (name, rows[name])
        assert 0 < rows[name]["relative_error"] <= rows[name]["error_bound"] < 2e-2
        assert rows[name]["frames"] == 64
    assert rows["against"].startswith("float32")


def test_a_variant_outside_its_bound_is_said_to_be(monkeypatch):
    monkeypatch.setattr(vision_variants, "time_call", lambda call, device, **_: 1.0)
    monkeypatch.setattr(vision_variants, "error_bound", lambda name, **_: 1e-9)
    rows = measure_vision_variants(Bench(size=SMALL, device="cpu"))
    assert not any(rows[name]["within_bound"] for name in VARIANTS)


def test_plans_need_a_gpu():
    assert measure_vision_plan(Bench(size=SMALL, device="cpu"), "widths") == NotRun("needs a GPU")
