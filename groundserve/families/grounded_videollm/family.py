"""Grounded-VideoLLM as a family: text, with time tokens."""

from __future__ import annotations

from groundserve.families.base import Head
from groundserve.families.grounded_videollm.plan import plan_video
from groundserve.families.grounded_videollm.spec import GroundedVideoLLMSpec
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, PlanInput, VideoPlan
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions


class GroundedVideoLLM:
    """See `groundserve.families.base.Family`."""

    name = "grounded_videollm"
    head: Head = "text"
    spec_type = GroundedVideoLLMSpec

    def streams(self, spec: GroundedVideoLLMSpec) -> tuple[FrameStream, ...]:
        """Return TEMPORAL_PIXELS, all frames of a segment, and SPATIAL_PIXELS, its key frame."""
        return (
            FrameStream(
                name="TEMPORAL_PIXELS",
                size=spec.temporal_size,
                resize="short_side",
                frames=tuple(range(spec.frames_per_segment)),
            ),
            FrameStream(
                name="SPATIAL_PIXELS",
                size=spec.spatial_size,
                resize="short_side",
                frames=(spec.key_frame,),
            ),
        )

    def plan_inputs(self, spec: GroundedVideoLLMSpec) -> tuple[PlanInput, ...]:
        """Return none: frames are all."""
        return ()

    def plan(
        self,
        index: VideoIndex,
        options: AnswerOptions,
        spec: GroundedVideoLLMSpec,
        limits: Limits = DEFAULT_LIMITS,
    ) -> VideoPlan:
        """See `plan_video`."""
        return plan_video(index, options, spec, limits)
