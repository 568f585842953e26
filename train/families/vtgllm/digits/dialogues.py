"""What is asked and told about MovingDigits, worded and tokenized as serving does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from groundserve.families.plans import VISUAL_TOKEN_ID, SeenVideo
from groundserve.families.vtgllm.prompt import TimeTokenizer, word_question
from groundserve.families.vtgllm.times import TIME_TOKENS, spell_places
from groundserve.options import AnswerOptions
from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from train.digits.answers.training import Tokens
from train.digits.answers.turns import (
    CAPTIONS_SHARE,
    KINDS,
    NUM_SECONDS,
    Turn,
    ask_moments,
    frames_of,
    index,
)
from train.digits.moments import Window, event_window, event_words
from train.digits.world import World
from train.families.vtgllm.family import DIGITS

SECONDS = tuple(float(second) for second in range(NUM_SECONDS))
"""When each of the frames that the family samples is shown."""
_MOMENT, _CAPTIONS = AnswerOptions(task="moment"), AnswerOptions(task="captions")


class TurnTokenizer:
    """Tokenizes turns as serving does; what stands around the video is the same in all."""

    def __init__(self, path: Path, *, num_visual_tokens: int, in_pieces: bool = False) -> None:
        """Read a `tokenizer.json` as `groundserve build` writes it.

        `in_pieces` tells times in the pieces of their digits, before there are tokens of them.
        """
        self._prompts = TimeTokenizer(path, time_tokens=True)
        self._answers = AddedTokensLlamaTokenizer.from_file(path)
        times = self._answers.added_ids
        self._spelled = {
            times[token]: self._answers.encode(digit)[-1] if in_pieces else times[token]
            for token, digit in zip(TIME_TOKENS, DIGITS, strict=True)
        }
        self._seen = SeenVideo(
            duration_seconds=float(NUM_SECONDS),
            num_visual_tokens=num_visual_tokens,
            time_range_seconds=None,
            model_seconds=SECONDS,
        )
        ids, num_prefix = self._ask("anything")
        place = int((ids == VISUAL_TOKEN_ID).nonzero())
        self.prefix = ids[:place]
        self.behind: torch.Tensor | None = ids[place + 1 : num_prefix]

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize a turn; what the assistant says ends with the end token."""
        asked, num_prefix = self._ask(turn.given)
        told = [*self._answers.encode(turn.said), self._answers.end_id]
        return Tokens.of(video, asked[num_prefix:], self._spell(told), turn.frames)

    def _ask(self, text: str) -> tuple[torch.Tensor, int]:
        prompt = self._prompts.prompt(text, AnswerOptions(task="moment", raw=True), self._seen)
        return self._spell(prompt.token_ids.tolist()), prompt.num_prefix

    def _spell(self, ids: list[int]) -> torch.Tensor:
        return torch.tensor([self._spelled.get(one, one) for one in ids])


class IndexTokenizer(TurnTokenizer):
    """Tokenizes an index right behind the video, without the times of its frames."""

    def __init__(self, path: Path, *, num_visual_tokens: int) -> None:
        super().__init__(path, num_visual_tokens=num_visual_tokens, in_pieces=True)
        self.behind = None

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize an entry; when it is told ends with the end token."""
        given = self._spell(self._answers.encode(turn.given))
        told = [*self._answers.encode(turn.said), self._answers.end_id]
        return Tokens.of(video, given, self._spell(told), turn.frames)


def index_turns(world: World, rng: np.random.Generator) -> list[Turn]:
    """Return an index of a video, and when each of its entries is told."""
    return [Turn(words, _span(window), frames_of(window)) for words, window in index(world)]


def instruct_turns(world: World, rng: np.random.Generator) -> list[Turn]:
    """Return questions for moments, and now and then one for all events.

    Source: gyxxyg/VTG-LLM ce13f3e, the answers in the data that it names, TimeIT and VTG-IT.
    """
    turns = []
    for question in ask_moments(world, rng, KINDS):
        said = f"The given query happens in {_span(question.window)}."
        asked = word_question(question.text, _MOMENT)
        turns.append(Turn(asked, said, frames_of(question.window)))
    turns = list(dict.fromkeys(turns))
    if rng.random() < CAPTIONS_SHARE:
        turns.append(Turn(word_question("", _CAPTIONS), _tell_all(world)))
    return turns


def _tell_all(world: World) -> str:
    return " ".join(f"{_span(event_window(e))}, {event_words(e)}." for e in world.events)


def _span(window: Window) -> str:
    first, last = (
        "".join(TIME_TOKENS[place] for place in spell_places(f"{time:.1f}")) for time in window
    )
    return f"{first} - {last} seconds"
