"""TensorRT plans of the real sizes, from random weights of 16 bits."""

import resource
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.models import random_grounding, random_vision
from benchmarks.gpu.size import FULL
from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from engine_build.tensorrt_plan import build_plan, token_scorer_shapes, vision_shapes
from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs

USUAL = default_plan(REFERENCE_FAMILY, REFERENCE_MODEL)
MAX_TOKENS = 20_480
DTYPE = torch.bfloat16


def export_vision(graph: Path) -> tuple[Any, int]:
    """SigLIP so400m, 384 px, as far as its last layer but one."""
    encoder = MixedVisionEncoder(random_vision(FULL, dtype=DTYPE, device="cpu"), dtype=DTYPE)
    inputs = VisionInputs.of(REFERENCE_FAMILY, REFERENCE_MODEL)
    export_mixed_vision_encoder(encoder, graph, inputs)
    return vision_shapes(inputs, USUAL), len(encoder.layers)


def export_scorer(graph: Path) -> tuple[Any, int]:
    """Layers, head size and S of the real decoder, at a seventh of its width."""
    config = replace(
        FULL.checkpoint,
        vocab_size=16,
        mm_hidden_size=8,
        hidden_size=512,
        intermediate_size=2048,
        num_attention_heads=4,
        num_key_value_heads=1,
    )
    model = random_grounding(replace(FULL, checkpoint=config), dtype=DTYPE, device="cpu")
    scorer = MixedTokenScorer(model, dtype=DTYPE, max_tokens=MAX_TOKENS)
    export_token_scorer(scorer, graph)
    return token_scorer_shapes(hidden_size=512, max_tokens=MAX_TOKENS, usual=USUAL), len(
        scorer.layers
    )


def build_full_size(stage: str, folder: Path) -> dict[str, Any]:
    """Build a plan in a process of its own, whose peak memory counts; what was built."""
    graph = folder / "model.onnx"
    shapes, num_layers = {"vision": export_vision, "scorer": export_scorer}[stage](graph)
    target = TensorRTTarget.choose(["sm_89", "sm_120"])
    plan = folder / "model.plan"
    report = build_plan(graph, plan, target=target, shapes=shapes, num_layers=num_layers)
    return {
        **asdict(report),
        "num_layers": num_layers,
        "weights_bytes": graph.with_name("model.onnx.data").stat().st_size,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }
