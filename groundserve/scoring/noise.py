"""Requests of seeded noise, in the shapes that a family's plans have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.families.base import FramesFamily, ModelSpec
from groundserve.families.default_video import short_plan
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs, take_units

_SEED = 20251121


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseRequest:
    """Noise in a request's shapes."""

    plan: VideoPlan
    """Of a short video: U units."""
    inputs: tuple[NDArray[Any], ...]
    """What the vision stage takes: uint8 noise for each stream, (U, S, S, 3) or (U, F, S, S, 3);
    then the inputs from the plan, float32, (1, ...) where all units share one."""
    text_ids: tuple[NDArray[np.int64], ...]
    """Of each question (L,)."""

    @classmethod
    def make(
        cls,
        family: FramesFamily[Any, Any],
        spec: ModelSpec,
        *,
        vocab_size: int,
        num_frames: int,
        text_lengths: Sequence[int],
    ) -> NoiseRequest:
        """Draw frames, then questions; the same ones every time.

        Args:
            family: Whose plan and streams decide the shapes.
            spec: Of the model, the family's `spec_type`.
            vocab_size: Text ids are below it.
            num_frames: Of the video that is planned.
            text_lengths: L of each question.
        """
        random = np.random.default_rng(_SEED)
        plan = short_plan(family, spec, num_frames)
        inputs = VisionInputs.of(family, spec)
        shapes = [stream.shape(len(plan.units)) for stream in inputs.streams]
        frames = [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
        return cls(
            plan=plan,
            inputs=(*frames, *inputs.of_plan(plan)),
            text_ids=tuple(random.integers(0, vocab_size, length) for length in text_lengths),
        )

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.plan.frame_indices)

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """S of each question with the video before it."""
        return tuple(self.plan.num_visual_tokens + len(ids) for ids in self.text_ids)

    @property
    def shape(self) -> str:
        """What it is, for people."""
        lengths = " and ".join(str(length) for length in self.num_tokens)
        return f"{self.num_frames} frames, {lengths} tokens in one pass"

    def of_units(self, units: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return `inputs` of some units, given their ordinals, alone."""
        return tuple(take_units(self.inputs, units))

    def first(self) -> NoiseRequest:
        """Return the same with the first question alone."""
        return replace(self, text_ids=self.text_ids[:1])


def usual_request(
    family: FramesFamily[Any, Any], spec: ModelSpec, *, vocab_size: int
) -> NoiseRequest:
    """Return the request whose token count TensorRT-LLM's kernels are chosen for.

    The visual budget and 1,024 tokens of text, or as many as the checkpoint takes where that is
    fewer; with as many frames as fill the budget in one run of the vision stage.
    """
    from engine_build.trtllm.limits import opt_num_tokens

    num_tokens = opt_num_tokens(spec)
    counts = range(1, min(CHUNK_FRAMES, spec.max_feature_tokens) + 1)
    visual = {count: short_plan(family, spec, count).num_visual_tokens for count in counts}
    # The last token at least is text. A checkpoint may hold fewer tokens than its visual budget.
    fitting = [count for count in counts if visual[count] < num_tokens]
    num_frames = max(fitting, key=lambda count: (visual[count], count))
    return NoiseRequest.make(
        family,
        spec,
        vocab_size=vocab_size,
        num_frames=num_frames,
        text_lengths=(num_tokens - visual[num_frames],),
    )
