"""Real plans by `tensorrt_rtx`, which needs no GPU to build them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine_build.families.videoitg.mixed_precision import MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder
from engine_build.tensorrt_plan import build_plan, vision_shapes
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import EngineMismatchError, InvalidRequestError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import KNOWN_TOWERS
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.support.vision import vision_inputs

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VISION_SHAPES = vision_shapes(*vision_inputs(Checkpoint.open(SHIPPED_CHECKPOINT).load_vision()))


@pytest.fixture(scope="module")
def target():
    return TensorRTTarget.choose(["sm_89", "sm_120"])


@pytest.fixture(scope="module")
def vision_graph(tmp_path_factory):
    """Export the digits encoder in a precision and opset."""
    model = Checkpoint.open(SHIPPED_CHECKPOINT).load_vision()
    folder = tmp_path_factory.mktemp("vision")

    def export(precision, opset=23):
        path = folder / f"{precision}_{opset}.onnx"
        mixed = MixedVisionEncoder(model, dtype=DTYPES[precision])
        export_mixed_vision_encoder(mixed, path, vision_inputs(mixed)[0], opset=opset)
        return path

    return export


@pytest.fixture(scope="module")
def so400m():
    """Two layers at SigLIP so400m's widths, of noise."""
    tower = replace(KNOWN_TOWERS["siglip-so400m-patch14-384"], num_hidden_layers=2)
    model = VisionEncoder(tower, select_layer=-1).to(torch.bfloat16).eval().requires_grad_(False)
    torch.manual_seed(2)
    for parameter in model.parameters():
        parameter.normal_(0, 0.02)
    return model


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_so400m_encoder_builds_with_every_layer_fused(so400m, target, tmp_path, precision):
    encoder = MixedVisionEncoder(so400m, dtype=DTYPES[precision])
    inputs, usual = vision_inputs(encoder)
    export_mixed_vision_encoder(encoder, tmp_path / "vision.onnx", inputs)
    report = build_plan(
        tmp_path / "vision.onnx",
        tmp_path / "vision.plan",
        target=target,
        shapes=vision_shapes(inputs, usual),
        num_layers=2,
    )
    assert (report.num_attention_layers, report.num_fused_kernels) == (2, 2)


def build(graph, tmp_path, target, **options):
    """Build the plan of a graph of the digits encoder."""
    plan, more = tmp_path / "vision.plan", {"shapes": VISION_SHAPES, "num_layers": 3, **options}
    return build_plan(graph, plan, target=target, **more)


def test_bf16_is_refused_where_the_gpu_has_none(vision_graph, target, tmp_path):
    with pytest.raises(EngineMismatchError, match=r"cannot build bf16_23\.onnx for sm_75: "):
        build(vision_graph("bf16"), tmp_path, replace(target, gpu_archs=("sm_75",)))


def test_the_attention_operator_is_never_taken_apart(vision_graph, target, tmp_path):
    with pytest.raises(EngineMismatchError, match="not supported by a dedicated kernel"):
        build(vision_graph("fp32"), tmp_path, target)


def test_a_plan_whose_attention_is_not_fused_is_refused(vision_graph, target, tmp_path):
    """In float32 the plain pattern builds, with P x P numbers in memory."""
    with pytest.raises(EngineMismatchError, match=r"3 attention layers and .* fused 0 of them"):
        build(vision_graph("fp32", 20), tmp_path, target)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_cannot_be_read_gives_the_parsers_reason(target, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x17 this is no graph")
    with pytest.raises(EngineMismatchError, match=r"cannot read model\.onnx: .*(parse|model)"):
        build(tmp_path / "model.onnx", tmp_path, target)


def test_a_timing_cache_is_refused_by_a_library_without_one(target, tmp_path):
    with pytest.raises(InvalidRequestError, match=r"must be None with tensorrt_rtx.*got timing"):
        build(tmp_path / "none", tmp_path, target, timing_cache_path=tmp_path / "timing.cache")
