"""VTimeLLM as a family: text, with times as hundredths of the video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from groundserve.families.plans import FrameStream
from groundserve.families.text_family import TextFamilyBase
from groundserve.families.vtimellm.answer import parse_answer
from groundserve.families.vtimellm.layout import is_layout
from groundserve.families.vtimellm.plan import plan_video
from groundserve.families.vtimellm.prompt import VicunaTokenizer
from groundserve.families.vtimellm.spec import VTimeLLMSpec
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

    def open_tokenizer(self, path: Path, spec: VTimeLLMSpec) -> VicunaTokenizer:
        """See `VicunaTokenizer.from_file`."""
        return VicunaTokenizer.from_file(path)

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what the video becomes."""
        return "a token each"
