"""VTG-LLM's vision stage and Grounded-VideoLLM's, as TensorRT computes them.

Their graphs' operators, and their numbers in PyTorch and ONNX Runtime. At the published widths:
test_tensorrt_full_size.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine_build.exported_plan import build_vision_plan
from engine_build.families.grounded_videollm import mixed_precision as grounded_videollm
from engine_build.families.vtgllm import mixed_precision as vtgllm
from engine_build.onnx_tensorrt import export_mixed_vision_encoder
from groundserve.families import get_family
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.families.vtgllm.q_former import QFormerConfig
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtgllm.vision import VisionEncoder
from groundserve.tensorrt_library import TensorRTTarget
from tests.unit.families.grounded_videollm.checkpoints import formula_streams
from tests.unit.families.grounded_videollm.checkpoints import opened as grounded_checkpoint
from tests.vtgllm_stages import CASES, formula_frame, frame_text_ids, open_config

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NUM_UNITS = 3
STAGES = ("interpolation", "text_input", "phi3.5", "llama3")
"""Two configurations of VTG-LLM, with and without a sentence, and both Grounded-VideoLLMs."""


@cache
def stage(name: str) -> Any:
    """Return the model, what it is exported for, frames, and how mixed precision is made of it."""
    if name in ("phi3.5", "llama3"):
        checkpoint: Any = grounded_checkpoint(name)
        family, mixed = get_family("grounded_videollm"), grounded_videollm.MixedVisionEncoder
        feeds = formula_streams(NUM_UNITS)
    else:
        checkpoint = open_config(name)
        family, mixed = get_family("vtgllm"), vtgllm.MixedVisionEncoder
        feeds = (torch.from_numpy(np.stack([formula_frame(t) for t in (0, 40, 95)])),)
        if name == "text_input":
            recorded = next(case for case in CASES.values() if case.get("qformer_text"))
            ids = frame_text_ids(recorded)
            assert ids is not None
            feeds = (*feeds, ids[:NUM_UNITS])
    model = checkpoint.load_vision()
    with torch.inference_mode():
        expected = model(*feeds).numpy()
    return SimpleNamespace(
        checkpoint=checkpoint,
        model=model,
        mixed=lambda precision: mixed(model, dtype=DTYPES[precision]),
        inputs=VisionInputs.of(family, checkpoint.model_spec(pad_token_id=0)),
        feeds=feeds,
        expected=expected,
    )


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")

    @cache
    def graph(name: str, precision: str) -> Any:
        path = folder / f"{name}.{precision}.onnx"
        export_mixed_vision_encoder(stage(name).mixed(precision), path, stage(name).inputs)
        return path

    return graph


def features(module, feeds):
    with torch.inference_mode():
        return module(*feeds)


def distance(got, expected):
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def relative_error(got, expected):
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "num_attentions", "num_products"),
    [
        # Three blocks of EVA (query-key-value, out, up, down), and the patches; of four layers of
        # the Q-Former two have one attention more (query, key-value, out) beside an MLP.
        ("interpolation", 3 + 4 + 2, 4 * 3 + 1 + 6 * 3 + 4 * 2),
        # Of words and of queries an MLP each.
        ("text_input", 3 + 4 + 2, 4 * 3 + 1 + 6 * 3 + 4 * 4),
        # Blocks of both towers, patches of each, two layers of each projector.
        ("phi3.5", 5, 4 * 5 + 2 + 4),
        ("llama3", 5, 4 * 5 + 2 + 4),
    ],
)
def test_attention_is_one_operator_without_a_mask(graphs, name, num_attentions, num_products):
    nodes = onnx.load(graphs(name, "bf16"), load_external_data=False).graph.node
    attention = [node for node in nodes if node.op_type == "Attention"]
    assert len(attention) == len(stage(name).mixed("bf16").layers) == num_attentions
    for node in attention:
        assert len(node.input) == 3
        assert {a.name: a.i for a in node.attribute}.get("is_causal", 0) == 0
    types = Counter(node.op_type for node in nodes)
    # Newer in TensorRT's parser than Attention; and what would hold S x S numbers.
    assert not types.keys() & {"RMSNormalization", "Squeeze", "Softmax", "Resize"}
    assert types["MatMul"] + types["Gemm"] == num_products


@pytest.mark.parametrize("name", STAGES)
def test_the_float32_stage_equals_the_models(name):
    one = stage(name)
    # float32 against float32; only the order of additions differs.
    found = features(one.mixed("fp32"), one.feeds).numpy()
    assert relative_error(found, one.expected) < 1e-5


@pytest.mark.parametrize("num_units", [1, NUM_UNITS])
@pytest.mark.parametrize("name", STAGES)
def test_the_float32_graph_equals_the_models(graphs, name, num_units):
    one = stage(name)
    session = onnxruntime.InferenceSession(graphs(name, "fp32"), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == list(one.inputs.names)
    feeds = dict(zip(names, (feed[:num_units].numpy() for feed in one.feeds), strict=True))
    (found,) = session.run(None, feeds)
    assert relative_error(found, one.expected[:num_units]) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", STAGES)
def test_16_bit_errs_as_the_stage_wholly_in_that_dtype_or_less(name, precision):
    one = stage(name)
    found = features(one.mixed(precision), one.feeds)
    assert found.dtype == torch.float16
    # Rounds what ours does, and the streams, norms and activations beside; twice, for each rounding
    # may go another way.
    whole = features(one.checkpoint.load_vision(dtype=DTYPES[precision]), one.feeds)
    most = distance(whole.float().numpy(), one.expected)
    error = distance(found.float().numpy(), one.expected)
    assert 0 < error < 2 * most


def test_the_plan_of_vtg_llm_is_fused_in_every_layer_and_leaves_no_graph(tmp_path):
    """With a sentence, whose ids are an input; heads of the fixture's 8 have no fused kernel."""
    eva = replace(open_config("text_input").eva, image_size=56, num_hidden_layers=1)
    q_former = QFormerConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    vision = VisionEncoder(eva, q_former, num_queries=4, num_words=12)
    for parameter in vision.requires_grad_(False).parameters():
        parameter.normal_(0, 0.02)
    model = VTGLLMSpec(
        image_size=56,
        frame_text_before=[1, 2],
        frame_text_digits=list(range(11)),
        frame_text_after=[3],
    )
    family = get_family("vtgllm")
    report = build_vision_plan(
        vtgllm.MixedVisionEncoder(vision.eval(), dtype=torch.float16),
        tmp_path / "vision_encoder.plan",
        inputs=VisionInputs.of(family, model),
        usual=default_plan(family, model),
        target=TensorRTTarget.choose(("sm_89",)),
        timing_cache=None,
    )
    # One of the tower, one of each layer of the Q-Former, and that of its first to the tower.
    assert report.num_attention_layers == report.num_fused_kernels == 1 + 2 + 1
    assert [path.name for path in tmp_path.iterdir()] == ["vision_encoder.plan"]
