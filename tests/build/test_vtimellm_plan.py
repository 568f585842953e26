"""CLIP's tower for TensorRT: its graph's operators, and its numbers in PyTorch and ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine_build.families.vtimellm.mixed_precision import MixedClipTower
from engine_build.families.vtimellm.vision_plan import (
    build_clip_plan,
    clip_shapes,
    export_clip_tower,
)
from groundserve.families import get_text_family
from groundserve.families.plans import PLAN_PIXELS
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.tensorrt_library import TensorRTTarget
from python_backend.encode import TensorRTEncoder
from tests.reference import VTIMELLM

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
UNIT_ROUNDOFF = {"bf16": 2.0**-8, "fp16": 2.0**-11}


@pytest.fixture(scope="module")
def vision():
    return Checkpoint.open(VTIMELLM / "checkpoints", parts={}).load_vision()


@pytest.fixture(scope="module")
def frames():
    """Of no square shape: uint8 (3, H, W, 3)."""
    noise = np.random.default_rng(20261123).integers(0, 256, (3, 90, 160, 3), dtype=np.uint8)
    return torch.from_numpy(noise)


@pytest.fixture(scope="module")
def pixel_values(vision, frames):
    """As the plan takes them."""
    with torch.inference_mode():
        return vision.pixel_values(frames).to(torch.float16)


@pytest.fixture(scope="module")
def expected(vision, frames):
    """Features float32 (3, 1, D), from the frames themselves."""
    with torch.inference_mode():
        return vision(frames).numpy()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory, vision):
    folder = tmp_path_factory.mktemp("onnx")
    paths = {}
    for precision, dtype in DTYPES.items():
        paths[precision] = folder / f"{precision}.onnx"
        export_clip_tower(MixedClipTower(vision, dtype=dtype), paths[precision])
    return paths


def relative_error(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def distance(got, expected):
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_attention_is_one_operator_without_a_mask(graphs, vision, precision):
    nodes = onnx.load(graphs[precision], load_external_data=False).graph.node
    attention = [node for node in nodes if node.op_type == "Attention"]
    assert len(attention) == len(vision.layers)
    for node in attention:
        assert len(node.input) == 3
        assert {a.name: a.i for a in node.attribute}.get("is_causal", 0) == 0
    types = Counter(node.op_type for node in nodes)
    # Newer in TensorRT's parser than Attention; and what would hold S x S numbers.
    assert not types.keys() & {"RMSNormalization", "Squeeze", "Softmax", "Resize", "Expand"}
    # A layer: query-key-value, out, up, down. Patches and the last projection.
    assert types["MatMul"] + types["Gemm"] == 4 * len(vision.layers) + 2


def test_the_float32_tower_equals_the_models(vision, pixel_values, expected):
    tower = MixedClipTower(vision, dtype=torch.float32)
    with torch.inference_mode():
        features = tower(pixel_values).numpy()
    # float32 against float32; only the order of additions differs.
    assert relative_error(features, expected) < 1e-5


@pytest.mark.parametrize("num_frames", [1, 3])
def test_the_float32_graph_equals_the_models(graphs, pixel_values, expected, num_frames):
    session = onnxruntime.InferenceSession(graphs["fp32"], providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"PIXEL_VALUES": pixel_values[:num_frames].numpy()})
    assert features.shape == (num_frames, 1, expected.shape[2])
    assert relative_error(features, expected[:num_frames]) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bit_stays_within_its_roundings(vision, pixel_values, expected, precision):
    tower = MixedClipTower(vision, dtype=DTYPES[precision])
    with torch.inference_mode():
        features = tower(pixel_values)
    assert features.dtype == torch.float16
    # A branch has 7 roundings in series (normed input, weight, product, probabilities, product,
    # weight, product) that reach the output in full; one more, of the features to float16.
    error = distance(features.float().numpy(), expected)
    assert 0 < error < 7**0.5 * UNIT_ROUNDOFF[precision] + UNIT_ROUNDOFF["fp16"]


class ModulePlan:
    """What PlanRunner does, with the module that the plan is built of."""

    device = torch.device("cpu")

    def __init__(self, module):
        self.module, self.shapes, self.num_frames = module, clip_shapes(module), []

    def max_shape(self, name):
        return self.shapes[name].max_shape

    def run(self, inputs):
        pixel_values = inputs[PLAN_PIXELS]
        assert pixel_values.dtype == torch.float16
        assert pixel_values.is_contiguous()
        self.num_frames.append(len(pixel_values))
        with torch.inference_mode():
            return {"FEATURES": self.module(pixel_values)}


def test_frames_are_resized_before_the_plan_which_takes_as_many_as_it_may(vision):
    plan = ModulePlan(MixedClipTower(vision, dtype=torch.float16))
    pixels = get_text_family("vtimellm").open_pixels(
        VTimeLLMSpec(), image_size=plan.max_shape(PLAN_PIXELS)[-1]
    )
    noise = np.random.default_rng(20261123).integers(0, 256, (70, 54, 96, 3), dtype=np.uint8)
    found = TensorRTEncoder(plan, [PLAN_PIXELS], pixels=pixels).encode(noise)
    assert plan.num_frames == [64, 6]
    with torch.inference_mode():
        wanted = vision(torch.from_numpy(noise)).numpy()
    # As `test_16_bit_stays_within_its_roundings` has it.
    assert 0 < distance(found.numpy(), wanted) < (7**0.5 + 1) * UNIT_ROUNDOFF["fp16"]


def test_a_plan_is_fused_in_every_layer(vision, tmp_path):
    report = build_clip_plan(
        MixedClipTower(vision, dtype=torch.float16),
        tmp_path / "vision_encoder.plan",
        target=TensorRTTarget.choose(("sm_89",)),
    )
    assert report.num_attention_layers == len(vision.layers)
    assert [path.name for path in tmp_path.iterdir()] == ["vision_encoder.plan"]
