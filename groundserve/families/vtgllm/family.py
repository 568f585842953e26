"""VTG-LLM as a family: text, with times in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Moment
from groundserve.errors import InvalidRequestError
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, PlanInput, SeenVideo
from groundserve.families.text_family import TextFamilyBase
from groundserve.families.vtgllm.answer import parse_answer
from groundserve.families.vtgllm.layout import PART_NAMES, is_layout
from groundserve.families.vtgllm.plan import FRAME_TEXT, plan_video
from groundserve.families.vtgllm.prompt import TASKS, TimeTokenizer
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.families.vtgllm.times import LENGTH
from groundserve.limits import Limits
from groundserve.options import Task


class VTGLLM(TextFamilyBase):
    """See `groundserve.families.base.TextFamily`."""

    name = "vtgllm"
    spec_type = VTGLLMSpec
    tasks: tuple[Task, ...] = TASKS
    tasks_without_query: tuple[Task, ...] = ("captions", "summary")
    part_names = PART_NAMES
    plan = staticmethod(plan_video)
    recognises = staticmethod(is_layout)

    def streams(self, spec: VTGLLMSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame, resized to a square."""
        return (FrameStream(name="PIXELS", size=spec.image_size, resize="bilinear"),)

    def plan_inputs(self, spec: VTGLLMSpec) -> tuple[PlanInput, ...]:
        """Return FRAME_TEXT_IDS where the Q-Former reads a sentence with each frame."""
        if not spec.frame_text_before:
            return ()
        length = len(spec.frame_text_before) + LENGTH + len(spec.frame_text_after)
        return (PlanInput(name=FRAME_TEXT, dims=(length,), max_dims=(length,), of_units=True),)

    def front_inputs(self, spec: VTGLLMSpec) -> tuple[PlanInput, ...]:
        """Return SECONDS, rows of the embedding of seconds, where the model has one."""
        if spec.num_time_rows is None:
            return ()
        return (PlanInput(name="SECONDS", dims=(-1,), max_dims=(spec.num_frames,)),)

    def front_arrays(self, seen: SeenVideo, spec: VTGLLMSpec) -> tuple[NDArray[np.float32], ...]:
        """Return float32 (T,), the second of each frame; of a half, the even one."""
        if spec.num_time_rows is None:
            return ()
        return (np.rint(_told(seen)).astype(np.float32),)

    def check_features(
        self, shape: tuple[int, ...], spec: VTGLLMSpec, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Check FEATURES (T, P, D)."""
        most = min(spec.num_frames, limits.max_num_frames)
        if len(shape) != 3 or not 1 <= shape[0] <= most:
            raise InvalidRequestError(
                f"FEATURES must be (T, {spec.tokens_per_frame}, D) of 1 to {most} frames, "
                f"got {shape}"
            )
        if shape[1] != spec.tokens_per_frame:
            raise InvalidRequestError(
                f"FEATURES must have {spec.tokens_per_frame} tokens a frame, got {shape[1]}"
            )

    def check_seen(self, seen: SeenVideo, spec: VTGLLMSpec) -> None:
        """Check the tokens of the video, and the time of each frame."""
        seconds = np.array(seen.model_seconds or (), np.float64)
        if not 1 <= len(seconds) <= spec.num_frames:
            raise InvalidRequestError(
                f"model_seconds must have a time for each of 1 to {spec.num_frames} frames, "
                f"got {len(seconds)}"
            )
        # So written, NaN is refused, too.
        if not (seconds[0] >= 0 and (np.diff(seconds) >= 0).all() and np.isfinite(seconds[-1])):
            raise InvalidRequestError("model_seconds must be finite, >= 0 and never fall")
        if spec.num_time_rows is not None and np.rint(seconds[-1]) >= spec.num_time_rows:
            raise InvalidRequestError(
                f"model_seconds must be at most {spec.num_time_rows - 1} s, the last that the "
                f"model knows, got {seconds[-1]:.1f}"
            )
        expected = spec.num_visual_tokens(len(seconds))
        if seen.num_visual_tokens != expected:
            raise InvalidRequestError(
                f"num_visual_tokens must be {expected} for {len(seconds)} frames, "
                f"got {seen.num_visual_tokens}"
            )

    def open_tokenizer(self, path: Path, spec: VTGLLMSpec) -> TimeTokenizer:
        """See `TimeTokenizer.from_file`."""
        return TimeTokenizer.from_file(path, time_tokens=spec.time_tokens)

    def parse(self, text: str, task: Task, seen: SeenVideo) -> tuple[Moment, ...] | None:
        """See `parse_answer`."""
        return parse_answer(text, task)

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what each frame becomes."""
        return "each told its time"


def _told(seen: SeenVideo) -> Sequence[float]:
    assert seen.model_seconds is not None, "the plan of this family always has them"
    return seen.model_seconds
