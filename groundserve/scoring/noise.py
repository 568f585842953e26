"""Requests of seeded noise, in the shapes that a family's plans have.

Shape letters: U units, P tokens a unit, D their width, Q questions, n steps, V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine_build.trtllm.limits import opt_num_tokens
from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.engines.profiles import Device
from groundserve.families.base import FramesFamily, ModelSpec, TextFamily
from groundserve.families.default_video import short_plan
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt, VideoPlan
from groundserve.families.vision_inputs import VisionInputs, take_units
from groundserve.runtime.deadline import Deadline
from groundserve.scoring.comparison import compared_units
from groundserve.scoring.gate_report import Check
from python_backend.generate import Generator, Prefix, embed_prompt

_SEED = 20251121
_TEXT_SEED = 20261123
_NUM_FRAMES = 4
_WIDTH, _HEIGHT = 480, 270
"""Of frames as decoded; a graph that resizes them makes them smaller, as it does most videos'."""
_PREFIX_LENGTH = 12
_SUFFIX_LENGTHS = (9, 21)
_NUM_STEPS = 8
"""Tokens after each question: the first from the prompt's pass, the others from a token's each."""
_MAX_SECONDS = 24 * 3600.0
"""A build has no deadline of its own; a decoder's passes want one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    plan: VideoPlan
    """Of a short video: U units."""
    inputs: tuple[NDArray[Any], ...]
    """What the vision stage takes: uint8 noise for each stream, (U, S, S, 3) or (U, F, S, S, 3);
    then the inputs from the plan, float32, (1, ...) where all units share one."""

    _what_is_shared = "in one pass"

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.plan.frame_indices)

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Length of each question's sequence."""
        raise NotImplementedError

    @property
    def shape(self) -> str:
        """What it is, for people."""
        lengths = " and ".join(str(length) for length in self.num_tokens)
        return f"{self.num_frames} frames, {lengths} tokens {self._what_is_shared}"

    def check(self, output: str, *, error: float, bound: float, shape: str | None = None) -> Check:
        """Return what was measured: of features, whose shape is given, or of its sequences."""
        return Check(
            output=output,
            shape=shape or self.shape,
            num_frames=self.num_frames,
            num_tokens=() if shape else self.num_tokens,
            error=error,
            bound=bound,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseRequest(_Request):
    """Noise in the shapes of a request for scores."""

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
        """Draw frames, then questions of these lengths L; the same ones every time."""
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
    def num_tokens(self) -> tuple[int, ...]:
        """Length of each question's sequence, with the video before it."""
        return tuple(self.plan.num_visual_tokens + len(ids) for ids in self.text_ids)

    def of_units(self, units: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return `inputs` of some units, given their ordinals, alone."""
        return tuple(take_units(self.inputs, units))


def usual_request(
    family: FramesFamily[Any, Any], spec: ModelSpec, *, vocab_size: int
) -> NoiseRequest:
    """Return the request whose token count TensorRT-LLM's kernels are chosen for.

    The visual budget and 1,024 tokens of text, or as many as the checkpoint takes where that is
    fewer; with as many frames as fill the budget in one run of the vision stage.
    """
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


@dataclass(frozen=True, kw_only=True, eq=False)
class TextRequest(_Request):
    """Noise in the shapes of a short video and two questions about it."""

    _what_is_shared = "behind one prefix"

    units: NDArray[np.int64]
    """Of which features are compared."""
    front_inputs: tuple[NDArray[np.float32], ...]
    prompts: tuple[Prompt, ...]

    @classmethod
    def make(
        cls, family: TextFamily[Any], spec: ModelSpec, *, vocab_size: int, device: Device
    ) -> TextRequest:
        """Draw the same one every time, with as many units as the device's vision stage sees."""
        random = np.random.default_rng(_TEXT_SEED)
        plan = short_plan(family, spec, _NUM_FRAMES)
        units = compared_units(len(plan.units), device)
        inputs = VisionInputs.of(family, spec)
        index = replace(plan.index, width=_WIDTH, height=_HEIGHT)
        frames = [
            random.integers(0, 256, (len(units), *shape), dtype=np.uint8)
            for shape in inputs.unit_shapes(index)
        ]
        prefix = [*random.integers(0, vocab_size, _PREFIX_LENGTH).tolist(), VISUAL_TOKEN_ID]
        return cls(
            plan=plan,
            units=units,
            inputs=(*frames, *take_units(inputs.of_plan(plan), units)),
            front_inputs=family.front_arrays(plan.seen, spec),
            prompts=tuple(
                Prompt(
                    token_ids=np.array([*prefix, *random.integers(0, vocab_size, length).tolist()]),
                    num_prefix=len(prefix),
                )
                for length in _SUFFIX_LENGTHS
            ),
        )

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Length of each question's sequence, with the video and what is generated."""
        num_more = self.plan.num_visual_tokens - 1 + _NUM_STEPS - 1
        return tuple(len(prompt.token_ids) + num_more for prompt in self.prompts)

    def generate(
        self,
        generator: Generator,
        features: NDArray[np.float32],
        *,
        forced: NDArray[np.int64] | None = None,
        past_switch: bool = True,
    ) -> NDArray[np.float32]:
        """Return (Q, n, V), logits of every step, behind features (U, P, D).

        Each question is followed by the likeliest tokens, or those `forced`, (Q, n). The last step
        is rotated `past_switch`, as in the longest sequences, which these are far from; an engine
        may not let itself be told.
        """
        front, decoder = generator.front, generator.decoder
        block = front.embed_video(features, self.front_inputs)
        prefix = Prefix.compute(
            embed_prompt(self.prompts[0].prefix_ids, [block], front),
            room=max(_SUFFIX_LENGTHS) + _NUM_STEPS,
            regime=decoder.regime(max(self.num_tokens)),
            decoder=decoder,
            front=front,
            deadline=Deadline.after(_MAX_SECONDS),
        )
        longest = decoder.regime(sys.maxsize)
        rows = []
        for number, prompt in enumerate(self.prompts):
            steps = [prefix.follow(prompt.suffix_ids)]
            for step in range(_NUM_STEPS - 1):
                token = steps[-1].argmax() if forced is None else forced[number, step]
                regime = longest if past_switch and step == _NUM_STEPS - 2 else None
                steps.append(prefix.extend(np.array([token], np.int64), regime=regime))
            rows.append(np.stack(steps))
        return np.stack(rows)
