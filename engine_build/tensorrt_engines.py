"""From a checkpoint to the TensorRT plans of an engine directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine_build.exported_plan import build_exported_plan, build_vision_plan
from engine_build.families import GpuFamily
from engine_build.onnx_tensorrt import export_token_scorer
from engine_build.tensorrt_plan import (
    DEFAULT_MAX_TOKENS,
    PlanReport,
    token_scorer_shapes,
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

    def build_vision_plan(self) -> PlanReport:
        """Write `vision_encoder.plan`."""
        return build_vision_plan(
            self.family.vision_encoder(self.checkpoint, precision=self.precision),
            self.directory / VISION_PLAN_NAME,
            inputs=self.inputs,
            usual=self.usual,
            target=self.target,
            timing_cache=self.timing_cache,
        )

    def build_grounding_plan(self) -> PlanReport:
        """Write `grounding.plan`."""
        scorer = self.family.token_scorer(
            self.checkpoint,
            precision=self.precision,
            max_tokens=self.model.max_tokens or DEFAULT_MAX_TOKENS,
        )
        return build_exported_plan(
            lambda graph: export_token_scorer(scorer, graph),
            self.directory / GROUNDING_PLAN_NAME,
            shapes=token_scorer_shapes(
                hidden_size=scorer.hidden_size, max_tokens=scorer.max_tokens, usual=self.usual
            ),
            num_layers=len(scorer.layers),
            target=self.target,
            timing_cache=self.timing_cache,
        )
