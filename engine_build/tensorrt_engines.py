"""From a checkpoint to the TensorRT plans of an engine directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine_build.families import GpuFamily
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from engine_build.tensorrt_plan import (
    DEFAULT_MAX_TOKENS,
    ShapeRange,
    build_plan,
    token_scorer_shapes,
    vision_shapes,
)
from groundserve.engines.manifest import GROUNDING_PLAN_NAME, VISION_PLAN_NAME
from groundserve.engines.profiles import Precision
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.base import FamilyCheckpoint, ModelSpec
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs


@dataclass(frozen=True, kw_only=True)
class PlanBuilder:
    """What both plans are built from and for; the graphs between do not stay."""

    family: GpuFamily
    checkpoint: FamilyCheckpoint
    directory: Path
    model: ModelSpec
    inputs: VisionInputs
    usual: VideoPlan
    """Plan of a usual video, which the plans are fastest at."""
    target: TensorRTTarget
    precision: Precision
    timing_cache: Path | None

    def build_vision_plan(self) -> None:
        """Write `vision_encoder.plan`."""
        encoder = self.family.vision_encoder(self.checkpoint, precision=self.precision)
        self._build(
            VISION_PLAN_NAME,
            lambda graph: export_mixed_vision_encoder(encoder, graph, self.inputs),
            shapes=vision_shapes(self.inputs, self.usual),
            num_layers=len(encoder.layers),
        )

    def build_grounding_plan(self) -> None:
        """Write `grounding.plan`."""
        max_tokens = self.model.max_tokens or DEFAULT_MAX_TOKENS
        scorer = self.family.token_scorer(
            self.checkpoint, precision=self.precision, max_tokens=max_tokens
        )
        self._build(
            GROUNDING_PLAN_NAME,
            lambda graph: export_token_scorer(scorer, graph),
            shapes=token_scorer_shapes(
                hidden_size=scorer.hidden_size, max_tokens=max_tokens, usual=self.usual
            ),
            num_layers=len(scorer.layers),
        )

    def _build(
        self,
        name: str,
        export: Callable[[Path], None],
        *,
        shapes: Mapping[str, ShapeRange],
        num_layers: int,
    ) -> None:
        # Beside the plan: a graph with its weights may not fit where temporary files usually go.
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            graph = Path(scratch) / "graph.onnx"
            export(graph)
            build_plan(
                graph,
                self.directory / name,
                target=self.target,
                shapes=shapes,
                num_layers=num_layers,
                timing_cache_path=self.timing_cache,
            )
