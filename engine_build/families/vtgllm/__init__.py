"""VTG-LLM in engines for a GPU: see `engine_build.families.TextGpuFamily`."""

from __future__ import annotations

from pathlib import Path

from engine_build.exported_plan import build_vision_plan as build_stage_plan
from engine_build.families.vtgllm.mixed_precision import MixedVisionEncoder
from engine_build.tensorrt_plan import PlanReport
from engine_build.trtllm.llama import convert_checkpoint
from groundserve.families import get_family
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.families.vtgllm.checkpoint import Checkpoint
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.profiles import Precision
from groundserve.tensorrt_library import TensorRTTarget
from groundserve.tensors import torch_dtype

PRECISIONS: tuple[Precision, ...] = ("fp16",)
"""What the reference's tower computes in. Its decoder does so in bf16, whose roundings fp16 keeps
but for the smallest weights; a prompt table has no bf16 (docs/tensorrt_llm.md)."""

write_trtllm_checkpoint = convert_checkpoint


def build_vision_plan(
    checkpoint: Checkpoint,
    path: Path,
    *,
    model: VTGLLMSpec,
    target: TensorRTTarget,
    precision: Precision,
    timing_cache: Path | None,
) -> PlanReport:
    """Build EVA and the Q-Former, with products in 16 bit."""
    family = get_family("vtgllm")
    return build_stage_plan(
        MixedVisionEncoder(checkpoint.load_vision(), dtype=torch_dtype(precision)),
        path,
        inputs=VisionInputs.of(family, model),
        usual=default_plan(family, model),
        target=target,
        timing_cache=timing_cache,
    )
