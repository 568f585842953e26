"""VTimeLLM: CLIP's vector of each of 100 frames, a causal decoder that tells times by place."""

from __future__ import annotations

from pathlib import Path

from groundserve.families.base import Family, TextFamily
from groundserve.families.plans import FrameStream
from groundserve.families.vtimellm.answer import parse_answer
from groundserve.families.vtimellm.layout import PART_NAMES, is_layout
from groundserve.families.vtimellm.plan import VTimeLLMSpec, plan_video
from groundserve.families.vtimellm.prompt import VicunaTokenizer
from groundserve.options import AnswerOptions, Task


class VTimeLLM(TextFamily[VTimeLLMSpec]):
    """Answers tell times as hundredths of the video."""

    name = "vtimellm"
    spec_type = VTimeLLMSpec
    tasks: tuple[Task, ...] = ("moment", "captions", "chat")
    tasks_without_query: tuple[Task, ...] = ("captions",)
    part_names = PART_NAMES
    seen_as = "a token each"
    plan = staticmethod(plan_video)
    parse = staticmethod(parse_answer)
    recognises = staticmethod(is_layout)

    def streams(self, spec: VTimeLLMSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame as decoded.

        The reference resizes floats, which overshoot [0, 1] and are not clamped: no uint8 holds it.
        """
        return (FrameStream(name="PIXELS", size=None),)

    def open_tokenizer(self, path: Path, spec: VTimeLLMSpec) -> VicunaTokenizer:
        """Open Vicuna's tokenizer."""
        return VicunaTokenizer(path)


FAMILY: Family[VTimeLLMSpec, AnswerOptions] = VTimeLLM()
