"""Grounded-VideoLLM as a family: text, with time tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.answer import parse_answer
from groundserve.families.grounded_videollm.layout import PART_NAMES, is_layout
from groundserve.families.grounded_videollm.plan import plan_video
from groundserve.families.grounded_videollm.prompt import TASKS, GroundedTokenizer
from groundserve.families.grounded_videollm.spec import GroundedVideoLLMSpec
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, SeenVideo
from groundserve.families.text_family import TextFamilyBase
from groundserve.limits import Limits
from groundserve.options import Task


class GroundedVideoLLM(TextFamilyBase):
    """See `groundserve.families.base.TextFamily`."""

    name = "grounded_videollm"
    spec_type = GroundedVideoLLMSpec
    tasks = TASKS
    tasks_without_query: tuple[Task, ...] = ("captions",)
    part_names = PART_NAMES
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

    def check_features(
        self, shape: tuple[int, ...], spec: GroundedVideoLLMSpec, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Check FEATURES (U, P, D)."""
        if shape[:2] != (spec.num_segments, spec.tokens_per_segment):
            raise InvalidRequestError(
                f"FEATURES must be ({spec.num_segments}, {spec.tokens_per_segment}, D), a row a "
                f"segment, got {shape}"
            )

    def check_seen(self, seen: SeenVideo, spec: GroundedVideoLLMSpec) -> None:
        """Check the tokens of the video, and what a time token is a fraction of."""
        if seen.num_visual_tokens != spec.max_feature_tokens:
            raise InvalidRequestError(
                f"num_visual_tokens must be {spec.max_feature_tokens}, "
                f"{spec.tokens_per_segment} a segment, got {seen.num_visual_tokens}"
            )
        start, end = seen.time_range_seconds or (0.0, 0.0)
        if not (start == 0 < end < math.inf):
            raise InvalidRequestError(
                "time_range_seconds must be from 0 to the video's end, "
                f"got {seen.time_range_seconds}"
            )

    def open_tokenizer(self, path: Path, spec: GroundedVideoLLMSpec) -> GroundedTokenizer:
        """See `GroundedTokenizer.from_file`."""
        return GroundedTokenizer.from_file(path, spec)

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what the video becomes."""
        return "in segments of 8"
