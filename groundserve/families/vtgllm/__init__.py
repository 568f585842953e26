"""VTG-LLM: EVA and a Q-Former on each frame, a causal decoder that spells seconds in tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.families.base import Family, TextFamily
from groundserve.families.plans import FrameStream, PlanInput, SeenVideo
from groundserve.families.vtgllm.answer import parse_answer
from groundserve.families.vtgllm.layout import PART_NAMES, is_layout
from groundserve.families.vtgllm.plan import FRAME_TEXT, VTGLLMSpec, plan_video
from groundserve.families.vtgllm.prompt import TASKS, TimeTokenizer
from groundserve.families.vtgllm.times import LENGTH
from groundserve.options import AnswerOptions, Task


class VTGLLM(TextFamily[VTGLLMSpec]):
    """Answers tell times in seconds."""

    name = "vtgllm"
    spec_type = VTGLLMSpec
    tasks: tuple[Task, ...] = TASKS
    tasks_without_query: tuple[Task, ...] = ("captions", "summary")
    part_names = PART_NAMES
    seen_as = "each told its time"
    plan = staticmethod(plan_video)
    parse = staticmethod(parse_answer)
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
        assert seen.model_seconds is not None, "the plan of this family always has them"
        return (np.rint(seen.model_seconds).astype(np.float32),)

    def open_tokenizer(self, path: Path, spec: VTGLLMSpec) -> TimeTokenizer:
        """Open Llama's tokenizer with what VTG-LLM adds."""
        return TimeTokenizer(path, time_tokens=spec.time_tokens)


FAMILY: Family[VTGLLMSpec, AnswerOptions] = VTGLLM()
