"""Training of a small decoder on videos with several turns each, which share the video's rows.

Shape letters: B videos, M turns, S tokens of the longest, T frames, F facts about a frame, H width
of the decoder, h heads.
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


class FrameTeacher(nn.Module):
    """What each frame's states in the middle of the decoder learn to tell; left out at the end.

    It names the frame's own number, when the latest event began, and what is shown. Without it a
    decoder that starts from nothing takes very long to count frames and to see motion.
    """

    def __init__(self, width: int, *, layer: int, motion_weight: float) -> None:
        super().__init__()
        self.layer, self.motion_weight = layer, motion_weight
        self.head = nn.Linear(width, 4 * 10 + NUM_FACTS)

    def loss(self, states: Tensor, facts: FrameFacts) -> Tensor:
        """Return the loss of states (B, T, H)."""
        told = self.head(states).float()
        digits, told = told[..., :40].unflatten(-1, (4, 10)), told[..., 40:]
        own = torch.arange(states.shape[1]).expand(len(states), -1)
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
    rows: Tensor,
    turns: Sequence[Tokens],
    *,
    behind: Tensor | None = None,
    teacher: FrameTeacher | None = None,
    facts: FrameFacts | None = None,
    looks_at_moments: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean cross-entropy of what the assistant says, the teacher's, the share right.

    `rows` (B, T, H) stand for the videos, behind `prefix`, int64 (p,), and before what stands
    `behind` them in all turns. A video is computed once for all turns about it, as serving does for
    all questions.
    """
    given = [prefix] if behind is None else [prefix, behind]
    before, *after = (model.embed(ids).expand(len(rows), -1, -1) for ids in given)
    taught = torch.zeros(())
    logits, targets = [], []
    of_video = slice(len(prefix), len(prefix) + rows.shape[1])
    with fast_precision():
        seen = model.layers(
            inputs_embeds=torch.cat([before, rows, *after], dim=1),
            use_cache=True,
            output_hidden_states=teacher is not None,
        )
        if teacher is not None and facts is not None:
            taught = teacher.loss(seen.hidden_states[teacher.layer][:, of_video], facts)
        for group in _grouped(turns):
            ids = pad_sequence([turn.ids for turn in group], batch_first=True)
            labels = pad_sequence([turn.labels for turn in group], True, padding_value=_NO_LABEL)
            videos = torch.tensor([turn.video for turn in group])
            layers = seen.past_key_values.layers
            before_turns = DynamicCache([(one.keys[videos], one.values[videos]) for one in layers])
            out = model.layers(input_ids=ids, past_key_values=before_turns, output_attentions=True)
            # The state at s tells the token at s + 1.
            is_told, states = labels[:, 1:] != _NO_LABEL, out.last_hidden_state
            if looks_at_moments:
                weights = out.attentions[_LOOKING_LAYER][..., of_video]
                taught = taught + _look_loss(weights, _moments(group, rows.shape[1]), is_told)
            logits.append(model.head(states[:, :-1][is_told]).float())
            targets.append(labels[:, 1:][is_told])
    told, wanted = torch.cat(logits), torch.cat(targets)
    return F.cross_entropy(told, wanted), taught, (told.argmax(-1) == wanted).float().mean()


def _grouped(turns: Sequence[Tokens]) -> list[list[Tokens]]:
    groups = ([t for t in turns if len(t.ids) <= _LONG], [t for t in turns if len(t.ids) > _LONG])
    return [group for group in groups if group]


def _moments(turns: Sequence[Tokens], num_frames: int) -> Tensor:
    """Return bool (M, T), the frames of the moment that each turn tells."""
    found = torch.zeros(len(turns), num_frames, dtype=torch.bool)
    for place, turn in enumerate(turns):
        if turn.frames is not None:
            first, last = turn.frames
            found[place, first : last + 1] = True
    return found


def _look_loss(weights: Tensor, of_moment: Tensor, is_told: Tensor) -> Tensor:
    """Return how far some heads look away from the moment that is being told.

    Args:
        weights: float32 (M, h, S, T), of attention to frames.
        of_moment: bool (M, T).
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
    rows: Callable[[Sequence[int]], Tensor],
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
    rows: Callable[[Sequence[int]], Tensor],
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
