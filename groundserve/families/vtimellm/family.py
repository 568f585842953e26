"""VTimeLLM as a family: text, with times as hundredths of the video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, SeenVideo
from groundserve.families.text_family import TextFamilyBase
from groundserve.families.vtimellm.answer import parse_answer
from groundserve.families.vtimellm.layout import is_layout
from groundserve.families.vtimellm.plan import plan_video
from groundserve.families.vtimellm.prompt import VicunaTokenizer
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.limits import Limits
from groundserve.options import Task


class VTimeLLM(TextFamilyBase):
    """See `groundserve.families.base.TextFamily`."""

    name = "vtimellm"
    spec_type = VTimeLLMSpec
    tasks: tuple[Task, ...] = ("moment", "captions", "chat")
    tasks_without_query: tuple[Task, ...] = ("captions",)
    part_names = ("clip", "base", "projector", "adapter", "antialias", "clip_heads")
    plan = staticmethod(plan_video)
    parse = staticmethod(parse_answer)
    recognises = staticmethod(is_layout)

    def streams(self, spec: VTimeLLMSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame as decoded.

        The reference resizes floats, which overshoot [0, 1] and are not clamped: no uint8 holds it.
        """
        return (FrameStream(name="PIXELS", size=None),)

    def check_features(
        self, shape: tuple[int, ...], spec: VTimeLLMSpec, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Check FEATURES (T, 1, D)."""
        if shape[:2] != (spec.num_frames, 1):
            raise InvalidRequestError(
                f"FEATURES must be ({spec.num_frames}, 1, D), a vector a frame, got {shape}"
            )

    def check_seen(self, seen: SeenVideo, spec: VTimeLLMSpec) -> None:
        """Check the tokens of the video, and the range that times are fractions of."""
        if seen.num_visual_tokens != spec.num_frames:
            raise InvalidRequestError(
                f"num_visual_tokens must be {spec.num_frames}, a token a frame, "
                f"got {seen.num_visual_tokens}"
            )
        start, end = seen.time_range_seconds or (0.0, -1.0)
        if not 0 <= start <= end <= seen.duration_seconds:
            raise InvalidRequestError(
                "time_range_seconds must be a part of the video, "
                f"got {seen.time_range_seconds} of {seen.duration_seconds} s"
            )

    def open_tokenizer(self, path: Path, spec: VTimeLLMSpec) -> VicunaTokenizer:
        """See `VicunaTokenizer.from_file`."""
        return VicunaTokenizer.from_file(path)

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what the video becomes."""
        return "a token each"
