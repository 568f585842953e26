"""What is asked and told about MovingDigits, worded and tokenized as serving does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from groundserve.families.grounded_videollm.plan import GroundedVideoLLMSpec
from groundserve.families.grounded_videollm.prompt import GroundedTokenizer, word_question
from groundserve.families.grounded_videollm.times import NUM_STEPS
from groundserve.families.plans import VISUAL_TOKEN_ID, SeenVideo
from groundserve.options import AnswerOptions
from groundserve.tokenizers.tokenizer_json import load_tokenizer_json
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
from train.digits.world import Event, World

_SEEN = SeenVideo(
    duration_seconds=float(NUM_SECONDS),
    num_visual_tokens=0,
    time_range_seconds=(0.0, float(NUM_SECONDS)),
    model_seconds=None,
)
_MOMENT, _CAPTIONS = AnswerOptions(task="moment"), AnswerOptions(task="captions")
_NUM_REFERRED = 4
"""Moments of a video of which it is asked what happens."""
_RAW = AnswerOptions(task="moment", raw=True)


class TurnTokenizer:
    """Tokenizes turns as serving does where times are asked for."""

    behind = None

    def __init__(self, path: Path, spec: GroundedVideoLLMSpec) -> None:
        """Read a `tokenizer.json` as `groundserve build` writes it."""
        self._prompts = GroundedTokenizer(path, spec)
        self._tokenizer = load_tokenizer_json(path)
        self._end = torch.tensor(sorted(self._prompts.end_ids))
        ids, place = self._ask("anything")
        self.prefix = ids[:place]

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize a turn; what the assistant says ends with the end token."""
        ids, place = self._ask(turn.given)
        said = self._tokenizer.encode(turn.said, add_special_tokens=False).ids
        told = torch.cat([torch.tensor(said), self._end])
        return Tokens.of(video, ids[place + 1 :], told, turn.frames)

    def _ask(self, text: str) -> tuple[Tensor, int]:
        ids = torch.from_numpy(self._prompts.prompt(text, _RAW, _SEEN).token_ids)
        return ids, int((ids == VISUAL_TOKEN_ID).nonzero())


def index_turns(world: World, rng: np.random.Generator) -> list[Turn]:
    """Return an index of a video, when each of its entries is told, and what happens when."""
    entries = [
        Turn(words, f"{_span(window)}.", frames_of(window)) for words, window in index(world)
    ]
    return entries + _referring(world.events)


def turns_of(world: World, rng: np.random.Generator) -> list[Turn]:
    """Return questions for moments, what happens in some, and now and then all events."""
    turns = []
    for question in ask_moments(world, rng, KINDS):
        asked, _ = word_question(question.text, _MOMENT, _SEEN)
        turns.append(Turn(asked, f"{_span(question.window)}.", frames_of(question.window)))
    turns = list(dict.fromkeys(turns))
    some = rng.permutation(len(world.events))[:_NUM_REFERRED]
    turns += _referring([world.events[place] for place in some])
    if rng.random() < CAPTIONS_SHARE:
        told = [f"{_span(event_window(e))}, {event_words(e)}." for e in world.events]
        turns.append(Turn(word_question("", _CAPTIONS, _SEEN)[0], " ".join(told)))
    return turns


def _referring(events: Sequence[Event]) -> list[Turn]:
    """Return what happens in the moment of each event; captions alone do not teach that."""
    windows = [event_window(event) for event in events]
    return [
        Turn(_span(window), f"{event_words(event)}.", frames_of(window))
        for event, window in zip(events, windows, strict=True)
    ]


def _span(window: Window) -> str:
    first, last = (min(int(NUM_STEPS * time / NUM_SECONDS), NUM_STEPS) for time in window)
    return f"From <{first}> to <{last}>"
