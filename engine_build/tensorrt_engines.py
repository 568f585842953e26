"""From a checkpoint to the TensorRT plans of an engine directory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from engine_build.tensorrt_plan import (
    DEFAULT_MAX_TOKENS,
    PlanReport,
    ShapeRange,
    build_plan,
    token_scorer_shapes,
    vision_shapes,
)
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.manifest import GROUNDING_PLAN_NAME, VISION_PLAN_NAME
from groundserve.profiles import Precision
from groundserve.tensorrt_library import TensorRTTarget
from groundserve.tensors import torch_dtype


@dataclass(frozen=True, kw_only=True)
class PlanBuilder:
    """What both plans are built from and for; the graphs between do not stay."""

    checkpoint: Checkpoint
    """Opened checkpoint."""
    directory: Path
    """Engine directory to write to."""
    model: VideoITGSpec
    """Dimensions of the checkpoint."""
    target: TensorRTTarget
    """Library and architectures."""
    precision: Precision
    """Of the products."""
    timing_cache: Path | None
    """See `build_plan`."""

    def build_vision_plan(self) -> PlanReport:
        """Write `vision_encoder.plan`.

        Raises:
            EngineMismatchError: See `build_plan`.
        """
        encoder = MixedVisionEncoder(
            self.checkpoint.load_vision(), dtype=torch_dtype(self.precision)
        )
        return self._build(
            VISION_PLAN_NAME,
            lambda graph: export_mixed_vision_encoder(encoder, graph),
            vision_shapes(image_size=self.model.image_size, side=self.model.side),
            num_layers=len(encoder.layers),
        )

    def build_grounding_plan(self) -> PlanReport:
        """Write `grounding.plan`.

        Raises:
            EngineMismatchError: See `build_plan`.
        """
        dtype = torch_dtype(self.precision)
        max_tokens = self.model.max_tokens or DEFAULT_MAX_TOKENS
        # Read in 16 bits: the released model takes 15 GB so, and twice that in float32.
        model = self.checkpoint.load_grounding(dtype=dtype)
        scorer = MixedTokenScorer(model, dtype=dtype, max_tokens=max_tokens)
        config = self.checkpoint.config
        return self._build(
            GROUNDING_PLAN_NAME,
            lambda graph: export_token_scorer(scorer, graph),
            token_scorer_shapes(hidden_size=config.hidden_size, max_tokens=max_tokens),
            num_layers=config.num_hidden_layers,
        )

    def _build(
        self,
        plan_name: str,
        export: Callable[[Path], None],
        shapes: Mapping[str, ShapeRange],
        *,
        num_layers: int,
    ) -> PlanReport:
        # In the engine directory: a graph with its weights may not fit where temporary files
        # usually go.
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            graph = Path(scratch) / "graph.onnx"
            export(graph)
            return build_plan(
                graph,
                self.directory / plan_name,
                target=self.target,
                shapes=shapes,
                num_layers=num_layers,
                timing_cache_path=self.timing_cache,
            )
