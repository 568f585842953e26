"""CLIP's tower as a plan: PIXEL_VALUES float16 (n, 3, S, S) -> FEATURES float16 (n, 1, D)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim

from engine_build.exported_plan import build_exported_plan
from engine_build.families.vtimellm.mixed_precision import MixedClipTower
from engine_build.onnx_export import export_graph
from engine_build.onnx_tensorrt import TENSORRT_OPSET
from engine_build.tensorrt_plan import PlanReport, ShapeRange
from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.plans import PLAN_PIXELS


def export_clip_tower(model: MixedClipTower, path: Path) -> None:
    """Write the tower's graph; dynamic in the frames.

    Args:
        model: In any of the precisions.
        path: File to write; the weights go to `<path>.data` beside it.
    """
    # Two frames: the exporter would take one for a constant.
    example = torch.zeros((2, *_frame_shape(model)), dtype=torch.float16)
    export_graph(
        model,
        (example,),
        path,
        inputs=[PLAN_PIXELS],
        output="FEATURES",
        dynamic_shapes=({0: Dim("n", min=1, max=CHUNK_FRAMES)},),
        opset=TENSORRT_OPSET,
        weights_apart=True,
    )


def clip_shapes(model: MixedClipTower) -> dict[str, ShapeRange]:
    """Return the range of the plan: 1 to CHUNK_FRAMES frames."""
    shape = _frame_shape(model)
    # A full chunk is the usual one; only the last of a video has fewer frames.
    frames = ShapeRange(
        min_shape=(1, *shape),
        opt_shape=(CHUNK_FRAMES, *shape),
        max_shape=(CHUNK_FRAMES, *shape),
    )
    return {PLAN_PIXELS: frames}


def build_clip_plan(
    model: MixedClipTower,
    path: Path,
    *,
    target: TensorRTTarget,
    timing_cache: Path | None = None,
) -> PlanReport:
    """Write the tower's plan, for 1 to CHUNK_FRAMES frames; the graph between does not stay."""
    return build_exported_plan(
        lambda graph: export_clip_tower(model, graph),
        path,
        shapes=clip_shapes(model),
        num_layers=len(model.layers),
        target=target,
        timing_cache=timing_cache,
    )


def _frame_shape(model: MixedClipTower) -> tuple[int, int, int]:
    return (3, model.image_size, model.image_size)
