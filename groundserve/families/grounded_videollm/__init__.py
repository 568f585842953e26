"""Grounded-VideoLLM: CLIP and InternVideo2 on segments, a causal decoder with time tokens."""

from __future__ import annotations

from pathlib import Path

from groundserve.families.base import Family, TextFamily
from groundserve.families.grounded_videollm.answer import parse_answer
from groundserve.families.grounded_videollm.layout import PART_NAMES, is_layout
from groundserve.families.grounded_videollm.plan import GroundedVideoLLMSpec, plan_video
from groundserve.families.grounded_videollm.prompt import TASKS, GroundedTokenizer
from groundserve.families.plans import FrameStream
from groundserve.options import AnswerOptions, Task


class GroundedVideoLLM(TextFamily[GroundedVideoLLMSpec]):
    """Answers tell times in tokens of their own."""

    name = "grounded_videollm"
    spec_type = GroundedVideoLLMSpec
    tasks = TASKS
    tasks_without_query: tuple[Task, ...] = ("captions",)
    part_names = PART_NAMES
    seen_as = "in segments of 8"
    plan = staticmethod(plan_video)
    parse = staticmethod(parse_answer)
    recognises = staticmethod(is_layout)

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

    def open_tokenizer(self, path: Path, spec: GroundedVideoLLMSpec) -> GroundedTokenizer:
        """Open the decoder's tokenizer with the tokens for times."""
        return GroundedTokenizer(path, spec)


FAMILY: Family[GroundedVideoLLMSpec, AnswerOptions] = GroundedVideoLLM()
