"""The questions of one request to a head of text, and the answers made of what was generated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Answer, GenerationInfo, OnText
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families import check_asked
from groundserve.families.base import AnswerTokenizer, TextFamily
from groundserve.families.plans import Prompt, SeenVideo, VideoPlan
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from python_backend.generate import Generation
from python_backend.ground import check_number, check_sizes


@dataclass(frozen=True, kw_only=True)
class Room:
    """How long a sequence may be."""

    max_tokens: int | None
    """Visual and text tokens and those of the answer, as `ModelSpec.max_tokens`."""
    max_prompt_tokens: int | None = None
    """Those of a prompt, the video's among them; None where an answer alone limits it."""

    def check(self, name: str, *, num_text: int, num_visual: int, max_new: int) -> None:
        """Refuse a question for which there is none."""
        longest = self.max_prompt_tokens
        if longest is not None and num_text + num_visual > longest:
            raise UnsupportedError(
                f"{name} has {num_text} tokens with the prompt around it, beside {num_visual} "
                f"visual tokens, and vLLM answers this model's prompts of up to {longest} alone as "
                "PyTorch does; shorten it, or ask engines of profile cpu or torch"
            )
        if self.max_tokens is not None and num_text + num_visual + max_new > self.max_tokens:
            raise InvalidRequestError(
                f"{name} has {num_text} tokens with the prompt around it, beside "
                f"{num_visual} visual tokens and max_new_tokens {max_new}, together more "
                f"than {self.max_tokens}; shorten it or ask for fewer new tokens"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """Q questions within a server's limits; of a video each becomes a prompt."""

    queries: Sequence[str]
    options: AnswerOptions
    tokenizer: AnswerTokenizer
    room: Room

    @classmethod
    def parse(
        cls,
        queries: Sequence[str],
        options: AnswerOptions,
        *,
        family: TextFamily[Any],
        tokenizer: AnswerTokenizer,
        room: Room,
        limits: Limits,
    ) -> Self:
        """Check what needs no video; a question is empty where the task takes none."""
        options.check(limits)
        check_number(len(queries), limits)
        for number, query in enumerate(queries):
            check_asked(query, options, family, name=f"QUERY[{number}]")
        # surrogatepass: only the size is looked at here.
        check_sizes([len(query.encode("utf-8", "surrogatepass")) for query in queries], limits)
        return cls(queries=queries, options=options, tokenizer=tokenizer, room=room)

    def of(self, seen: SeenVideo) -> list[Prompt]:
        """Return the prompt of each question; one that has no room here is refused."""
        prompts = [self.tokenizer.prompt(query, self.options, seen) for query in self.queries]
        for number, prompt in enumerate(prompts):
            self.room.check(
                f"QUERY[{number}]",
                num_text=len(prompt.token_ids) - prompt.num_blocks,
                num_visual=seen.num_visual_tokens,
                max_new=self.options.max_new_tokens,
            )
        return prompts

    def check_fit(self, plan: VideoPlan) -> None:
        """Refuse before anything is decoded what `of` refuses."""
        self.of(plan.seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a head of text says to Q questions about one video."""

    answers: list[Answer]
    generation: GenerationInfo
    """The work on all of them."""


class TextStream:
    """The text of a request's answers, as their tokens come."""

    def __init__(self, tokenizer: AnswerTokenizer, on_text: OnText) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._token_ids: defaultdict[int, list[int]] = defaultdict(list)
        self._said: defaultdict[int, str] = defaultdict(str)

    def add(self, number: int, token_id: int) -> None:
        """Take the next token of the answer to the question of this number."""
        token_ids, said = self._token_ids[number], self._said[number]
        token_ids.append(token_id)
        text = self._tokenizer.text(token_ids)
        # A character of several tokens is held back until it is whole; so is what a later token
        # changed, which then comes with the whole answer alone.
        if text != said and text.startswith(said) and not text.endswith("\ufffd"):
            self._on_text(number, text[len(said) :])
            self._said[number] = text

    def complete(self, answers: Sequence[NDArray[np.int32]]) -> None:
        """Take what of the answers' tokens did not come."""
        for number, token_ids in enumerate(answers):
            for token_id in token_ids[len(self._token_ids[number]) :].tolist():
                self.add(number, token_id)


def read_answers(
    queries: Prompts,
    prompts: Sequence[Prompt],
    generation: Generation,
    *,
    family: TextFamily[Any],
    seen: SeenVideo,
) -> Answers:
    """Read text and times of what was generated."""
    options = queries.options
    answers, is_read = [], []
    for query, prompt, one in zip(queries.queries, prompts, generation.answers, strict=True):
        text = queries.tokenizer.text(one.token_ids.tolist())
        moments = family.parse(text, options.task, seen)
        is_read.append(moments is not None)
        answers.append(
            Answer(
                query=query,
                task=options.task,
                prompt_token_ids=prompt.token_ids.astype(np.int32),
                token_ids=one.token_ids,
                text=text,
                moments=moments or (),
                stop_reason=one.stop_reason,
            )
        )
    return Answers(
        answers=answers,
        generation=GenerationInfo(
            prefix_tokens=generation.prefix_tokens,
            prompt_tokens=generation.prompt_tokens,
            generated_tokens=generation.generated_tokens,
            seed=generation.seed,
            time_range_seconds=seen.time_range_seconds,
            stop_reasons=tuple(one.stop_reason for one in generation.answers),
            is_read=tuple(is_read),
        ),
    )
