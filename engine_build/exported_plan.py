"""Build a TensorRT plan of a model by way of its graph, which does not stay."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from engine_build.families.modules import MixedVisionModule
from engine_build.onnx_tensorrt import export_mixed_vision_encoder
from engine_build.tensorrt_plan import PlanReport, ShapeRange, build_plan, vision_shapes
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs


def build_vision_plan(
    model: MixedVisionModule,
    path: Path,
    *,
    inputs: VisionInputs,
    usual: VideoPlan,
    target: TensorRTTarget,
    timing_cache: Path | None,
) -> PlanReport:
    """Write the plan of a vision stage whose frames come resized."""
    return build_exported_plan(
        lambda graph: export_mixed_vision_encoder(model, graph, inputs),
        path,
        shapes=vision_shapes(inputs, usual),
        num_layers=len(model.layers),
        target=target,
        timing_cache=timing_cache,
    )


def build_exported_plan(
    export: Callable[[Path], None],
    path: Path,
    *,
    shapes: Mapping[str, ShapeRange],
    num_layers: int,
    target: TensorRTTarget,
    timing_cache: Path | None,
) -> PlanReport:
    """Write the plan of a graph that is made for it."""
    # Beside the plan: a graph with its weights may not fit where temporary files usually go.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        graph = Path(scratch) / "graph.onnx"
        export(graph)
        return build_plan(
            graph,
            path,
            target=target,
            shapes=shapes,
            num_layers=num_layers,
            timing_cache_path=timing_cache,
        )
