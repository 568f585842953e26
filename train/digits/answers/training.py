"""Training of a small decoder on videos with several turns each, which share the video's rows.

Shape letters: B videos, M turns, S tokens of the longest, T frames, N rows of a video, F facts
about a frame, H width of the decoder, h heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel

from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from train.digits.answers.journal import Journal
from train.digits.answers.turns import (
    NUM_FACTS,
    SHOWN,
    FrameFacts,
    Turn,
    draw_world,
    facts_of,
)
from train.digits.world import MOTIONS, NUM_DIGITS, World

_NO_LABEL = -100
_FACTS = 20.0
"""Weight of facts, of most of which a frame shows nothing."""
TAUGHT_LAYER = 3
"""Behind which layer a `FrameTeacher` listens."""
_MOTION_WEIGHT = 3.0  # of frames; words name motions
_LOOKING_LAYER, _LOOKING_HEADS = 3, 2
"""Of the layer behind the one that a `FrameTeacher` listens to."""
_LONG = 64
"""Turns of more tokens than this are computed apart, so that others are not padded to them."""


class Tokens(NamedTuple):
    """A turn as the model reads it."""

    video: int
    """Its place in the batch."""
    ids: Tensor
    """int64 (s,), behind the video's rows."""
    labels: Tensor
    """int64 (s,), the same ids where the assistant speaks."""
    frames: tuple[int, int] | None
    """First and last frame of the one moment that it tells; None where it tells none."""

    @classmethod
    def of(cls, video: int, given: Tensor, said: Tensor, frames: tuple[int, int] | None) -> Tokens:
        """Put together what is given and what the assistant says, which is learnt."""
        unlearnt = torch.full_like(given, _NO_LABEL)
        return cls(video, torch.cat([given, said]), torch.cat([unlearnt, said]), frames)


class VideoTokenizer(Protocol):
    """Tokenizes turns about a video as serving does."""

    @property
    def prefix(self) -> Tensor:
        """int64 (p,), in front of every video."""

    @property
    def behind(self) -> Tensor | None:
        """int64 (b,), behind every video and before every turn, if there is such."""

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize a turn about the video at this place of the batch."""


class TurnTokenizer:
    """Tokenizes turns as VTimeLLM's serving does."""

    behind = None

    def __init__(self, tokenizer: LlamaTokenizer, before: str) -> None:
        """`before` is the text in front of the video."""
        self._tokenizer = tokenizer
        self.begin = torch.tensor([tokenizer.begin_id])
        self.prefix = torch.tensor([tokenizer.begin_id, *tokenizer.encode(before)])

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize a turn; what the assistant says ends with the end token."""
        given, said, frames = turn
        whole = self._tokenizer.encode(f"{given} {said}")
        num_given = len(self._tokenizer.encode(given))
        ids = torch.tensor([*whole, self._tokenizer.end_id])
        return Tokens.of(video, ids[:num_given], ids[num_given:], frames)


class Decoder(NamedTuple):
    """Parts of a causal decoder that is trained."""

    layers: nn.Module
    """Rows or ids -> states, as a model of transformers without a head."""
    head: nn.Module

    @property
    def embed(self) -> nn.Module:
        """Ids -> rows."""
        embed: nn.Module = cast(PreTrainedModel, self.layers).get_input_embeddings()
        return embed


class Rows(NamedTuple):
    """What stands for videos in a decoder's input: all of their rows, or some that stand for all.

    A row that is one of `copies` that are nearly the same is attended to as they would be together.
    """

    vectors: Tensor
    """(B, N, H)."""
    frames: Tensor
    """int64 (N,), the frame, or second, that each tells; -1 where it tells none."""
    places: Tensor | None = None
    """int64 (N,), where each stands among all; None: all are here."""
    copies: Tensor | None = None
    """float32 (N,), how many rows each stands for; given with places."""
    num_places: int = 0

    @classmethod
    def of_frames(cls, vectors: Tensor) -> Rows:
        """Return rows (B, T, H) of which each is a frame."""
        return cls(vectors, torch.arange(vectors.shape[1]))

    def placed(self, num_before: int, num_after: int) -> dict[str, Tensor]:
        """Return what the decoder is told of positions where rows are left out."""
        if self.places is None or self.copies is None:
            return {}
        behind = num_before + self.num_places + torch.arange(num_after)
        places = torch.cat([torch.arange(num_before), num_before + self.places, behind])
        bias = F.pad(self.copies.log(), (num_before, num_after))
        return {"position_ids": places[None], "attention_mask": _causal(bias, len(places))}

    def placed_turns(self, num_given: int, num_after: int, length: int) -> dict[str, Tensor]:
        """Return the same for turns, behind what was given with the rows."""
        if self.places is None or self.copies is None:
            return {}
        places = num_given + self.num_places + torch.arange(length)
        num_before = num_given - num_after
        bias = F.pad(self.copies.log(), (num_before, num_after + length))
        return {"position_ids": places[None], "attention_mask": _causal(bias, length)}


def _causal(bias: Tensor, length: int) -> Tensor:
    """Return the mask of the last positions: float32 (1, 1, length, len(bias))."""
    later = torch.full((length, len(bias)), torch.finfo(torch.float32).min)
    return (torch.triu(later, len(bias) - length + 1) + bias)[None, None]


class FrameTeacher(nn.Module):
    """What each frame's states in the middle of the decoder learn to tell; left out at the end.

    It names the frame's own number, when the latest event began, and what is shown. Without it a
    decoder that starts from nothing takes very long to count frames and to see motion.
    """

    def __init__(self, width: int, *, layer: int, motion_weight: float) -> None:
        super().__init__()
        self.layer, self.motion_weight = layer, motion_weight
        self.head = nn.Linear(width, 4 * 10 + NUM_FACTS)

    def loss(self, states: Tensor, frames: Tensor, facts: FrameFacts) -> Tensor:
        """Return the loss of states (B, N, H), each of the frame that `frames` says."""
        facts = FrameFacts(facts.shown[:, frames], facts.begun[:, frames])
        told = self.head(states).float()
        digits, told = told[..., :40].unflatten(-1, (4, 10)), told[..., 40:]
        own = frames.expand(len(states), -1)
        numbers = [own // 10, own % 10, facts.begun // 10, facts.begun % 10]
        wrong = F.cross_entropy(digits.flatten(0, 2), torch.stack(numbers, dim=-1).flatten())
        loss = 4 * wrong + _FACTS * F.binary_cross_entropy_with_logits(told, facts.shown)
        # How each digit that is shown moves, which single frames do not say, is learnt last.
        told, true = (one.unflatten(-1, (NUM_DIGITS, -1)) for one in (told, facts.shown))
        is_shown, num = true[..., SHOWN] > 0, len(MOTIONS)
        moves = F.cross_entropy(told[is_shown][:, :num], true[is_shown][:, :num].argmax(-1))
        return loss + self.motion_weight * moves


def fast_precision() -> torch.autocast:
    """Compute in bfloat16 where the processor does; elsewhere that is slower than float32."""
    in_hardware = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast("cpu", torch.bfloat16, enabled=in_hardware)


def turn_loss(
    model: Decoder,
    prefix: Tensor,
    rows: Rows,
    turns: Sequence[Tokens],
    *,
    behind: Tensor | None = None,
    teacher: FrameTeacher | None = None,
    facts: FrameFacts | None = None,
    looks_at_moments: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean cross-entropy of what the assistant says, the teacher's, the share right.

    `rows` stand behind `prefix`, int64 (p,), and before what stands `behind` them in all turns. A
    video is computed once for all turns about it, as serving does for all questions.
    """
    given = [prefix] if behind is None else [prefix, behind]
    before, *after = (model.embed(ids).expand(len(rows.vectors), -1, -1) for ids in given)
    num_after = 0 if behind is None else len(behind)
    taught = torch.zeros(())
    logits, targets = [], []
    of_video = slice(len(prefix), len(prefix) + len(rows.frames))
    is_frame = rows.frames >= 0
    with fast_precision():
        seen = model.layers(
            inputs_embeds=torch.cat([before, rows.vectors, *after], dim=1),
            use_cache=True,
            **rows.placed(len(prefix), num_after),
            output_hidden_states=teacher is not None,
        )
        if teacher is not None and facts is not None:
            states = seen.hidden_states[teacher.layer][:, of_video][:, is_frame]
            taught = teacher.loss(states, rows.frames[is_frame], facts)
        for group in _grouped(turns):
            ids = pad_sequence([turn.ids for turn in group], batch_first=True)
            labels = pad_sequence([turn.labels for turn in group], True, padding_value=_NO_LABEL)
            videos = torch.tensor([turn.video for turn in group])
            layers = seen.past_key_values.layers
            before_turns = DynamicCache([(one.keys[videos], one.values[videos]) for one in layers])
            out = model.layers(
                input_ids=ids,
                past_key_values=before_turns,
                output_attentions=True,
                **rows.placed_turns(len(prefix) + num_after, num_after, ids.shape[1]),
            )
            # The state at s tells the token at s + 1.
            is_told, states = labels[:, 1:] != _NO_LABEL, out.last_hidden_state
            if looks_at_moments:
                weights = out.attentions[_LOOKING_LAYER][..., of_video]
                taught = taught + _look_loss(weights, _moments(group, rows.frames), is_told)
            logits.append(model.head(states[:, :-1][is_told]).float())
            targets.append(labels[:, 1:][is_told])
    told, wanted = torch.cat(logits), torch.cat(targets)
    return F.cross_entropy(told, wanted), taught, (told.argmax(-1) == wanted).float().mean()


def _grouped(turns: Sequence[Tokens]) -> list[list[Tokens]]:
    groups = ([t for t in turns if len(t.ids) <= _LONG], [t for t in turns if len(t.ids) > _LONG])
    return [group for group in groups if group]


def _moments(turns: Sequence[Tokens], frames: Tensor) -> Tensor:
    """Return bool (M, N), the rows of the moment that each turn tells."""
    nothing = (0, -1)
    spans = torch.tensor([turn.frames or nothing for turn in turns])
    return (frames >= spans[:, :1]) & (frames <= spans[:, 1:])


def _look_loss(weights: Tensor, of_moment: Tensor, is_told: Tensor) -> Tensor:
    """Return how far some heads look away from the moment that is being told.

    Args:
        weights: float32 (M, h, S, N), of attention to rows.
        of_moment: bool (M, N).
        is_told: bool (M, S - 1), where a state tells a token of an answer.
    """
    frames = weights[:, :_LOOKING_HEADS, :-1]
    seen = (frames * of_moment[:, None, None]).sum(-1).mean(1)  # (M, S - 1)
    counts = is_told & of_moment.any(-1, keepdim=True)
    return -(seen[counts] + 1e-4).log().mean() if counts.any() else seen.sum() * 0


class Steps(NamedTuple):
    """How many, and the highest learning rate."""

    number: int
    learning_rate: float


class Videos(NamedTuple):
    """Which drawn videos are trained on, and how many a step."""

    seed: int
    number: int
    batch_size: int


def video_losses(
    model: Decoder,
    tokenize: VideoTokenizer,
    rows: Callable[[Sequence[int]], Rows],
    teacher: FrameTeacher,
    turns: Callable[[World, np.random.Generator], list[Turn]],
    *,
    seconds: Sequence[float],
    videos: Videos,
    seed: Sequence[int],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the loss of each step, and the share of tokens told right.

    `rows` are those of the videos of some numbers; `seconds`, when each of their frames is shown.
    """
    # Whose weights are looked at.
    cast(PreTrainedModel, model.layers).config._attn_implementation = "eager"
    rng = np.random.default_rng(seed)
    size, order = videos.batch_size, np.zeros(0, np.int64)
    while True:
        if len(order) < size:
            order = rng.permutation(videos.number)
        numbers, order = order[:size], order[size:]
        worlds = [draw_world("train", videos.seed, int(number)) for number in numbers]
        asked: list[Tokens] = [
            tokenize(place, turn)
            for place, world in enumerate(worlds)
            for turn in turns(world, rng)
        ]
        loss, taught, right = turn_loss(
            model,
            tokenize.prefix,
            rows(numbers.tolist()),
            asked,
            behind=tokenize.behind,
            teacher=teacher,
            facts=facts_of(worlds, seconds),
            looks_at_moments=True,
        )
        yield loss + taught, right


def train_on_videos(
    model: Decoder,
    trained: Iterable[nn.Parameter],
    tokenize: VideoTokenizer,
    rows: Callable[[Sequence[int]], Rows],
    turns: Callable[[World, np.random.Generator], list[Turn]],
    *,
    seconds: Sequence[float],
    videos: Videos,
    seed: Sequence[int],
    steps: Steps,
    journal: Journal,
    name: str,
) -> None:
    """Train on turns about videos, with a `FrameTeacher` that is dropped at the end."""
    teacher = FrameTeacher(
        cast(nn.Linear, model.head).in_features, layer=TAUGHT_LAYER, motion_weight=_MOTION_WEIGHT
    )
    losses = video_losses(
        model, tokenize, rows, teacher, turns, seconds=seconds, videos=videos, seed=seed
    )
    with journal.timed(name):
        optimise(
            [*trained, *teacher.parameters()],
            losses,
            num_steps=steps.number,
            learning_rate=steps.learning_rate,
            on_step=journal.report(name),
        )


def optimise(
    parameters: Sequence[nn.Parameter],
    losses: Iterator[tuple[Tensor, Tensor]],
    *,
    num_steps: int,
    learning_rate: float,
    on_step: Callable[[int, float, Tensor], None],
) -> None:
    """Take a step for each loss, on a cosine schedule with a short warm-up as published."""
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=num_steps, pct_start=0.05
    )
    for step, (loss, right) in zip(range(num_steps), losses, strict=False):
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, loss.item(), right)
