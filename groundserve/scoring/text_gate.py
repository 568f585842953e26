"""The gate of a head of text: its engines against the PyTorch model they came from.

Shape letters: U units, P tokens a unit, D their width, Q questions, n steps, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.families.base import VISUAL_TOKEN_ID, Prompt, TextCheckpoint, VideoPlan
from groundserve.families.contract import check_features
from groundserve.families.default_video import short_plan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import Manifest
from groundserve.scoring.comparison import (
    compared_units,
    fill_between,
    free_memory,
    relative_error,
)
from groundserve.scoring.gate_report import Check, GateReport
from groundserve.scoring.tolerances import Tolerance

if TYPE_CHECKING:
    from python_backend.encode import VisionEncoder
    from python_backend.engine import EngineDirectory
    from python_backend.stages import Generator

_NUM_FRAMES = 4
_FRAME_SHAPE = (270, 480, 3)
"""Of frames as decoded; a graph that resizes them makes them smaller, as it does most videos'."""
_PREFIX_LENGTH = 12
_SUFFIX_LENGTHS = (9, 21)
_NUM_STEPS = 8
"""Tokens after each question: the first from the prompt's pass, the others from a token's each."""
_INT4_FACTOR = 2.0
"""Error of an engine in int4 over that of the same roundings in PyTorch, at most. A value next to
the middle between two steps goes either way, and later layers with it."""
_MAX_SECONDS = 24 * 3600.0
"""A build has no deadline of its own; a decoder's passes want one."""
_SEED = 20261123


def measure_text(
    engine: EngineDirectory, opened: TextCheckpoint, tolerance: Tolerance
) -> GateReport:
    """Measure the engines of a head of text.

    Two questions follow one prefix with a short video in it, each with several tokens behind it,
    which PyTorch picks for both.

    Args:
        engine: The engines.
        opened: The checkpoint they were built from.
        tolerance: How far they may be from PyTorch.

    Raises:
        EngineMismatchError: An output has another shape than PyTorch's.
        GroundserveError: PyTorch's are not what `groundserve.families.base` says of them.
    """
    manifest = engine.manifest
    request = _Request.make(manifest, vocab_size=opened.vocab_size)
    # PyTorch first, and gone before the engines come: a GPU need not have room for both.
    expected = _run_reference(opened, request, manifest, tolerance)
    free_memory(manifest.device)
    encoder = engine.open_encoder(num_threads=2)
    features = request.encode(encoder)
    del encoder
    generator = engine.open_generator(num_threads=2)
    logits = request.generate(generator, expected.features, forced=expected.token_ids)
    wanted = expected.logits
    # By how much PyTorch's own choice is the better one, by its own logits.
    chosen = np.take_along_axis(wanted, logits.argmax(-1)[..., None], axis=-1)[..., 0]
    shortfall = float((wanted.max(-1) - chosen).max() / max(1.0, np.abs(wanted).max()))
    bound = expected.logit_bound
    shape = request.shape
    return GateReport(
        device=manifest.device,
        checks=(
            Check(
                output="features",
                shape=f"{len(request.units)} units of {features.shape[1]} tokens",
                num_frames=request.num_frames,
                num_tokens=(),
                error=relative_error(features, expected.features[request.units], floor=1e-6),
                bound=tolerance.feature_error,
            ),
            Check(
                output="next_logits",
                shape=shape,
                num_frames=request.num_frames,
                num_tokens=request.num_tokens,
                error=relative_error(logits, wanted, floor=1.0),
                bound=bound,
            ),
            Check(
                output="next_tokens",
                shape=shape,
                num_frames=request.num_frames,
                num_tokens=request.num_tokens,
                error=shortfall,
                # Two logits that are each off by the bound change places where they lie closer.
                bound=2 * bound,
            ),
        ),
        mask_probe=None,
        not_run={},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Expected:
    """What PyTorch computes of a request."""

    features: NDArray[np.float32]
    """(U, P, D): PyTorch's at the request's units, in between what lies between those."""
    logits: NDArray[np.float32]
    """(Q, n, V)."""
    logit_bound: float
    """Most that logits may differ."""

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """(Q, n), what PyTorch picks."""
        picked: NDArray[np.int64] = self.logits.argmax(-1)
        return picked


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    """Noise in the shapes of a short video and two questions about it."""

    plan: VideoPlan
    """Of the video."""
    units: NDArray[np.int64]
    """Of which features are compared."""
    inputs: tuple[NDArray[Any], ...]
    """What the vision stage takes: uint8 noise of these units, then what is of the plan."""
    front_inputs: tuple[NDArray[np.float32], ...]
    """What the front takes beside features."""
    prompts: tuple[Prompt, ...]
    """Of the questions."""

    @classmethod
    def make(cls, manifest: Manifest, *, vocab_size: int) -> Self:
        """Draw the same one every time."""
        random = np.random.default_rng(_SEED)
        family, spec = manifest.text_seam, manifest.model
        plan = short_plan(family, spec, _NUM_FRAMES)
        units = compared_units(len(plan.units), manifest.device)
        inputs = VisionInputs.of(family, spec)
        shape = _FRAME_SHAPE if inputs.stream.size is None else inputs.stream.shape(1)[1:]
        frames = random.integers(0, 256, (len(units), *shape), dtype=np.uint8)
        prefix = [*random.integers(0, vocab_size, _PREFIX_LENGTH).tolist(), VISUAL_TOKEN_ID]
        return cls(
            plan=plan,
            units=units,
            inputs=(frames, *inputs.of_plan(plan)),
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
    def num_frames(self) -> int:
        """T."""
        return len(self.plan.frame_indices)

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Positions of each question, with the video and what is generated."""
        num_more = self.plan.num_visual_tokens - 1 + _NUM_STEPS - 1
        return tuple(len(prompt.token_ids) + num_more for prompt in self.prompts)

    @property
    def shape(self) -> str:
        """What it is, for people."""
        lengths = " and ".join(str(length) for length in self.num_tokens)
        return f"{self.num_frames} frames, {lengths} tokens behind one prefix"

    def encode(self, encoder: VisionEncoder) -> NDArray[np.float32]:
        """Return (units, P, D)."""
        from python_backend.arrays import to_host

        features: NDArray[np.float32] = to_host(encoder.encode(*self.inputs))
        return features

    def generate(
        self,
        generator: Generator,
        features: NDArray[np.float32],
        *,
        forced: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Return (Q, n, V), logits of every step.

        Args:
            generator: Front and decoder.
            features: (U, P, D).
            forced: (Q, n), tokens that follow each question; the likeliest where None.
        """
        from python_backend.generate import Prefix, embed_prompt

        front, decoder = generator.front, generator.decoder
        block = front.embed_video(features, self.front_inputs)
        prefix = Prefix.compute(
            embed_prompt(self.prompts[0].prefix_ids, [block], front),
            room=max(_SUFFIX_LENGTHS) + _NUM_STEPS,
            decoder=decoder,
            front=front,
            deadline=Deadline.after(_MAX_SECONDS),
        )
        rows = []
        for number, prompt in enumerate(self.prompts):
            steps = [prefix.follow(prompt.suffix_ids)]
            for step in range(_NUM_STEPS - 1):
                token = steps[-1].argmax() if forced is None else forced[number, step]
                steps.append(prefix.extend(np.array([token], np.int64)))
            rows.append(np.stack(steps))
        return np.stack(rows)


def _run_reference(
    opened: TextCheckpoint, request: _Request, manifest: Manifest, tolerance: Tolerance
) -> _Expected:
    """Run PyTorch in float32."""
    from python_backend.encode import TorchEncoder
    from python_backend.generate import TorchDecoder, TorchFront
    from python_backend.stages import Generator

    device = manifest.device
    encoded = request.encode(TorchEncoder(opened.load_vision(), device=device))
    check_features(manifest.seam, manifest.model, encoded, num_units=len(request.units))
    features = fill_between(encoded, request.units)
    model = opened.load_decoder()
    front = TorchFront(opened.load_front(), model.get_input_embeddings(), device=device)
    generator = Generator(front=front, decoder=TorchDecoder(model, device=device))
    logits = request.generate(generator, features)
    expected = _Expected(features=features, logits=logits, logit_bound=tolerance.logit_error)
    if manifest.precision != "int4":
        return expected
    from groundserve.scoring.int4_model import round_decoder

    round_decoder(model)
    rounded = request.generate(generator, features, forced=expected.token_ids)
    error = relative_error(rounded, logits, floor=1.0)
    return replace(expected, logit_bound=_INT4_FACTOR * error + tolerance.logit_error)
