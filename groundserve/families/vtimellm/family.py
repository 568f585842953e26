"""VTimeLLM as a family: text, with times as hundredths of the video."""

from __future__ import annotations

from groundserve.families.base import DEFAULT_LIMITS, FrameStream, Head, VideoPlan
from groundserve.families.vtimellm.plan import plan_video
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions


class VTimeLLM:
    """See `groundserve.families.base.Family`."""

    name = "vtimellm"
    head: Head = "text"

    def streams(self, spec: VTimeLLMSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame as decoded.

        The reference resizes floats, which overshoot [0, 1] and are not clamped: no uint8 holds it.
        """
        return (FrameStream(name="PIXELS", size=None),)

    def plan(
        self,
        index: VideoIndex,
        options: AnswerOptions,
        spec: VTimeLLMSpec,
        limits: Limits = DEFAULT_LIMITS,
    ) -> VideoPlan:
        """See `plan_video`."""
        return plan_video(index, options, spec, limits)
