"""Questions on one video, answered token by token behind one prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as PythonGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import StopReason
from groundserve.errors import DeadlineExceededError, GroundserveError
from groundserve.families.plans import Prompt
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.generate.base import Decoder, Front
from python_backend.generate.prefix import Prefix, embed_prompt, parts_of_block
from python_backend.generate.sampling import choose_seed, open_sampler
from python_backend.meter import Meter

T = TypeVar("T")

OnToken = Callable[[int, int], None]
"""Told the number of a question and the next token of its answer, as soon as that is known."""

Turns: TypeAlias = PythonGenerator[None, None, T]
"""Work that stops where others may come in between; `finish` returns its result."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """One answer as tokens."""

    token_ids: NDArray[np.int32]
    """int32 (n,), its end token included; none where time ran out before the first."""
    stop_reason: StopReason


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """The answers to the questions of one request, and what was computed for them."""

    answers: tuple[Generated, ...]
    """One a question, in the order asked."""
    prefix_tokens: int
    """Positions, the video's block among them, that were computed once for all questions: once in
    each regime that a whole prompt is in."""
    prompt_tokens: int
    """Positions of all prompts behind the prefix."""
    seed: int | None
    """What draws began with; None where nothing was drawn."""

    @property
    def generated_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(len(answer.token_ids) for answer in self.answers)


@dataclass(kw_only=True, eq=False)
class Work:
    """The questions of one request, and what is answered of them."""

    embeddings: Array
    """(S, H), of what all prompts have in front."""
    prompts: Sequence[Prompt]
    options: AnswerOptions
    seed: int | None
    end_ids: frozenset[int]
    deadline: Deadline
    meter: Meter
    others_wait: Callable[[], bool]
    on_token: OnToken | None
    answers: dict[int, Generated] = field(default_factory=dict)
    """By the question's number."""
    prefix_positions: dict[int, int] = field(default_factory=dict)
    """By regime."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """The generation stage: a decoder, and what makes its embeddings."""

    front: Front
    decoder: Decoder

    def close(self) -> None:
        """End what was started for this: nothing, where all runs in this process."""

    def answer(
        self,
        features: Array,
        inputs: Sequence[NDArray[np.float32]],
        prompts: Sequence[Prompt],
        options: AnswerOptions,
        *,
        end_ids: frozenset[int],
        deadline: Deadline,
        meter: Meter,
        others_wait: Callable[[], bool] = lambda: False,
        on_token: OnToken | None = None,
    ) -> Turns[Generation]:
        """Answer Q >= 1 questions on (U, P, D) of a video, with its family's `front_arrays`.

        What all have in front is computed once in each regime; an answer is the same, to the bit,
        whatever else is asked with it. Once there is an answer's token, time that runs out ends
        the answers where they are.
        """
        self.check(options)
        deadline.check()
        work = Work(
            embeddings=self._embed_shared(features, inputs, prompts),
            prompts=prompts,
            options=options,
            seed=choose_seed(options),
            end_ids=end_ids,
            deadline=deadline,
            meter=meter,
            others_wait=others_wait,
            on_token=on_token,
        )
        try:
            yield from self.run(work)
        except DeadlineExceededError:
            if not work.answers:
                raise
        unanswered = Generated(token_ids=np.empty(0, np.int32), stop_reason="deadline")
        return Generation(
            answers=tuple(work.answers.get(number, unanswered) for number in range(len(prompts))),
            prefix_tokens=sum(work.prefix_positions.values()),
            prompt_tokens=sum(len(prompt.suffix_ids) for prompt in prompts),
            seed=work.seed,
        )

    def check(self, options: AnswerOptions) -> None:
        """Refuse options that this decoder does not have: none, in this process."""

    def run(self, work: Work) -> Turns[None]:
        """Answer one question after another; between two it stops where others wait.

        The prefix is let go of for them, and computed again afterwards: one is held at a time.
        """
        num_shared, prompts = len(work.embeddings), work.prompts
        regimes = [self.decoder.regime(num_shared + len(prompt.suffix_ids)) for prompt in prompts]
        for regime in sorted(set(regimes)):
            numbers = [number for number, one in enumerate(regimes) if one == regime]
            # Nothing follows the last token of an answer, so it needs no place.
            longest = max(len(prompts[number].suffix_ids) for number in numbers)
            room = longest + work.options.max_new_tokens - 1
            prefix: Prefix | None = None  # one after another: no two are held at a time
            for number in numbers:
                if work.answers and work.others_wait():
                    prefix = None
                    yield
                prefix = prefix or self._prefix(work, regime, room)
                work.answers[number] = generate(
                    prefix,
                    prompts[number],
                    work.options,
                    seed=work.seed,
                    end_ids=work.end_ids,
                    meter=work.meter,
                    on_token=work.on_token and partial(work.on_token, number),
                )
            del prefix

    def _prefix(self, work: Work, regime: int, room: int) -> Prefix:
        told = work.prompts[0].position_ids
        prefix = Prefix.compute(
            work.embeddings,
            room=room,
            regime=regime,
            decoder=self.decoder,
            front=self.front,
            deadline=work.deadline,
            position_ids=None if told is None else told[:, : len(work.embeddings)],
        )
        work.meter.add("prefix_tokens", prefix.num_positions)
        work.prefix_positions[regime] = prefix.num_positions
        return prefix

    def _embed_shared(
        self, features: Array, inputs: Sequence[NDArray[np.float32]], prompts: Sequence[Prompt]
    ) -> Array:
        first = prompts[0]
        for prompt in prompts:
            assert np.array_equal(prompt.prefix_ids, first.prefix_ids), "one video, one prefix"
        blocks = parts_of_block(self.front.embed_video(features, inputs), first.num_blocks)
        return embed_prompt(first.prefix_ids, blocks, self.front)


def finish(turns: Turns[T]) -> T:
    """Run to the end what stops for others, where there are none."""
    while True:
        try:
            next(turns)
        except StopIteration as finished:
            result: T = finished.value
            return result


def generate(
    prefix: Prefix,
    prompt: Prompt,
    options: AnswerOptions,
    *,
    seed: int | None,
    end_ids: frozenset[int],
    meter: Meter,
    on_token: Callable[[int], None] | None = None,
) -> Generated:
    """Answer one question behind a prefix with room for it and `max_new_tokens - 1` behind it."""
    pick = open_sampler(options, seed)
    told = prompt.position_ids
    logits = prefix.follow(
        prompt.suffix_ids, None if told is None else told[:, prefix.num_positions :]
    )
    meter.add("prompt_tokens", len(prompt.suffix_ids))
    token_ids: list[int] = []
    stop_reason: StopReason = "length"
    try:
        while True:
            # NaN would be picked and look like an answer.
            if not np.isfinite(logits).all():
                raise GroundserveError("the decoder returned logits that are not finite")
            token_ids.append(pick(logits))
            if on_token is not None:
                on_token(token_ids[-1])
            if token_ids[-1] in end_ids:
                stop_reason = "eos"
                break
            if len(token_ids) == options.max_new_tokens:
                break
            logits = prefix.extend(np.array(token_ids[-1:], np.int64))
    except DeadlineExceededError:
        stop_reason = "deadline"
    finally:
        meter.add("generated_tokens", len(token_ids))
    return Generated(token_ids=np.array(token_ids, np.int32), stop_reason=stop_reason)
