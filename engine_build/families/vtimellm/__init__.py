"""VTimeLLM in engines for a GPU: see `engine_build.families.TextGpuFamily`."""

from __future__ import annotations

from pathlib import Path

from engine_build.families.vtimellm.mixed_precision import MixedClipTower
from engine_build.families.vtimellm.vision_plan import build_clip_plan
from engine_build.tensorrt_plan import PlanReport
from engine_build.trtllm.llama import convert_checkpoint
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.profiles import Precision
from groundserve.tensorrt_library import TensorRTTarget
from groundserve.tensors import torch_dtype

PRECISIONS: tuple[Precision, ...] = ("fp16",)
"""What the reference computes in. In bf16 times in answers change (docs/families.md)."""

write_trtllm_checkpoint = convert_checkpoint


def build_vision_plan(
    checkpoint: Checkpoint,
    path: Path,
    *,
    model: VTimeLLMSpec,
    target: TensorRTTarget,
    precision: Precision,
    timing_cache: Path | None,
) -> PlanReport:
    """Build CLIP's tower behind its pixel values, with products in 16 bit."""
    tower = MixedClipTower(checkpoint.load_vision(), dtype=torch_dtype(precision))
    return build_clip_plan(tower, path, target=target, timing_cache=timing_cache)
