"""VTG-LLM as a family: text, with times in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.errors import MissingExtraError
from groundserve.families.base import Head
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, PlanInput, VideoPlan
from groundserve.families.vtgllm.layout import PART_NAMES, is_layout
from groundserve.families.vtgllm.plan import plan_video
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions

if TYPE_CHECKING:
    from groundserve.families.vtgllm.checkpoint import Checkpoint


class VTGLLM:
    """See `groundserve.families.base.Family`."""

    name = "vtgllm"
    head: Head = "text"
    spec_type = VTGLLMSpec
    part_names = PART_NAMES

    def streams(self, spec: VTGLLMSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame, resized to a square."""
        return (FrameStream(name="PIXELS", size=spec.image_size, resize="bilinear"),)

    def plan_inputs(self, spec: VTGLLMSpec) -> tuple[PlanInput, ...]:
        """Return none: frames are all."""
        return ()

    def plan(
        self,
        index: VideoIndex,
        options: AnswerOptions,
        spec: VTGLLMSpec,
        limits: Limits = DEFAULT_LIMITS,
    ) -> VideoPlan:
        """See `plan_video`."""
        return plan_video(index, options, spec, limits)

    def recognises(self, directory: Path) -> bool:
        """See `is_layout`."""
        return is_layout(directory)

    def open_checkpoint(
        self, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]] | None = None
    ) -> Checkpoint:
        """See `Checkpoint.open`."""
        try:
            from groundserve.families.vtgllm.checkpoint import Checkpoint
        except ImportError as error:
            raise MissingExtraError("build", error.name or "torch") from error
        return Checkpoint.open(path, parts=parts or {})
