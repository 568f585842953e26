"""Training of a small decoder on videos with several turns each, which share the video's rows.

Shape letters: B videos, T frames, F facts about a frame, H width of the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from groundserve.families.vtimellm.prompt import _BEFORE
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from train.families.vtimellm.digits.dialogues import Turn

_NO_LABEL = -100
_FACTS = 20.0
"""Weight of facts, of most of which a frame shows nothing."""
_LOOKING_LAYER, _LOOKING_HEADS = 3, 2
"""Of the layer behind the one that a `FrameTeacher` listens to."""
_ATTENTION = "turns_about_videos"
_LONG = 64
"""Turns of more tokens than this are computed apart, so that others are not padded to them."""


class FrameFacts(NamedTuple):
    """What is true of each frame."""

    shown: Tensor
    """float32 (B, T, F), 0 or 1."""
    begun: Tensor
    """int64 (B, T), the number of the frame in which the latest event began."""


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


class TurnTokenizer:
    """Tokenizes turns as serving does."""

    def __init__(self, tokenizer: LlamaTokenizer) -> None:
        self._tokenizer = tokenizer
        self.begin = torch.tensor([tokenizer.begin_id])
        self.prefix = torch.tensor([tokenizer.begin_id, *tokenizer.encode(_BEFORE)])

    def __call__(self, video: int, turn: Turn) -> Tokens:
        """Tokenize a turn; what the assistant says ends with the end token."""
        given, said, frames = turn
        whole = self._tokenizer.encode(f"{given} {said}")
        num_given = len(self._tokenizer.encode(given))
        ids = torch.tensor([*whole, self._tokenizer.end_id])
        labels = ids.clone()
        labels[:num_given] = _NO_LABEL
        return Tokens(video, ids, labels, frames)


class FrameTeacher(nn.Module):
    """What each frame's states in the middle of the decoder learn to tell; left out at the end.

    It names the frame's own number, when the latest event began, and what is shown. Without it a
    decoder that starts from nothing takes very long to count frames and to see motion.
    """

    def __init__(self, width: int, num_facts: int, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 4 * 10 + num_facts)

    def loss(self, states: Tensor, facts: FrameFacts) -> Tensor:
        """Return the loss of states (B, T, H)."""
        told = self.head(states).float()
        digits, told = told[..., :40].unflatten(-1, (4, 10)), told[..., 40:]
        own = torch.arange(states.shape[1]).expand(len(states), -1)
        numbers = [own // 10, own % 10, facts.begun // 10, facts.begun % 10]
        wrong = F.cross_entropy(digits.flatten(0, 2), torch.stack(numbers, dim=-1).flatten())
        return 4 * wrong + _FACTS * F.binary_cross_entropy_with_logits(told, facts.shown)


def turn_loss(
    model: LlamaForCausalLM,
    prefix: Tensor,
    rows: Tensor,
    turns: Sequence[Tokens],
    *,
    teacher: FrameTeacher | None = None,
    facts: FrameFacts | None = None,
    looks_at_moments: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean cross-entropy of what the assistant says, the teacher's, the share right.

    `rows` (B, T, H) stand for the videos, behind `prefix`, int64 (p,). A video is computed once for
    all turns about it, as serving does for all questions.
    """
    before = model.get_input_embeddings()(prefix).expand(len(rows), -1, -1)
    taught = torch.zeros(())
    logits, targets = [], []
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.model(
            inputs_embeds=torch.cat([before, rows], dim=1),
            use_cache=True,
            output_hidden_states=teacher is not None,
        )
        if teacher is not None and facts is not None:
            taught = teacher.loss(seen.hidden_states[teacher.layer][:, len(prefix) :], facts)
        videos = [(layer.keys, layer.values) for layer in seen.past_key_values.layers]
        for group in _grouped(turns):
            ids, labels = _grid(group, len(rows))
            positions = torch.arange(ids.shape[1])[None] + len(prefix) + rows.shape[1]
            # The state at s tells the token at s + 1.
            is_told = labels[:, 1:] != _NO_LABEL
            with _attending(model, videos) as looks:
                states = model.model(
                    input_ids=ids, position_ids=positions, use_cache=False
                ).last_hidden_state
            if looks_at_moments:
                of_moment = _moments(group, len(rows), rows.shape[1])
                taught = taught + _look_loss(looks[_LOOKING_LAYER], of_moment, is_told)
            logits.append(model.lm_head(states[:, :-1][is_told]).float())
            targets.append(labels[:, 1:][is_told])
    told, wanted = torch.cat(logits), torch.cat(targets)
    return F.cross_entropy(told, wanted), taught, (told.argmax(-1) == wanted).float().mean()


def _grouped(turns: Sequence[Tokens]) -> list[list[Tokens]]:
    groups = ([t for t in turns if len(t.ids) <= _LONG], [t for t in turns if len(t.ids) > _LONG])
    return [group for group in groups if group]


def _grid(turns: Sequence[Tokens], num_videos: int) -> tuple[Tensor, Tensor]:
    """Return ids and labels (B * M, S): as many turns of each video, some of them blank."""
    of_video = _by_video(turns, num_videos)
    num_turns = max(map(len, of_video))
    ids = torch.zeros(num_videos, num_turns, max(len(turn.ids) for turn in turns), dtype=torch.long)
    labels = torch.full_like(ids, _NO_LABEL)
    for video, own in enumerate(of_video):
        for place, turn in enumerate(own):
            ids[video, place, : len(turn.ids)] = turn.ids
            labels[video, place, : len(turn.ids)] = turn.labels
    return ids.flatten(0, 1), labels.flatten(0, 1)


def _by_video(turns: Sequence[Tokens], num_videos: int) -> list[list[Tokens]]:
    return [[turn for turn in turns if turn.video == video] for video in range(num_videos)]


def _moments(turns: Sequence[Tokens], num_videos: int, num_frames: int) -> Tensor:
    """Return bool (B * M, T), the frames of the moment that each turn tells, laid out alike."""
    of_video = _by_video(turns, num_videos)
    found = torch.zeros(num_videos, max(map(len, of_video)), num_frames, dtype=torch.bool)
    for video, own in enumerate(of_video):
        for place, turn in enumerate(own):
            if turn.frames is not None:
                first, last = turn.frames
                found[video, place, first : last + 1] = True
    return found.flatten(0, 1)


def _look_loss(weights: Tensor, of_moment: Tensor, is_told: Tensor) -> Tensor:
    """Return how far some heads look away from the moment that is being told.

    Args:
        weights: float32 (B * M, h, S, p), of attention to the video's rows; frames come last.
        of_moment: bool (B * M, T).
        is_told: bool (B * M, S - 1), where a state tells a token of an answer.
    """
    frames = weights[:, :_LOOKING_HEADS, :-1, -of_moment.shape[1] :]
    seen = (frames * of_moment[:, None, None]).sum(-1).mean(1)  # (B * M, S - 1)
    counts = is_told & of_moment.any(-1, keepdim=True)
    return -(seen[counts] + 1e-4).log().mean() if counts.any() else seen.sum() * 0


@contextmanager
def _attending(
    model: LlamaForCausalLM, videos: Sequence[tuple[Tensor, Tensor]]
) -> Iterator[dict[int, Tensor]]:
    """Let turns attend to their video's keys and values, (B, h, p, d) of each layer, uncopied.

    What is yielded gets each layer's weights on them, float32 (B * M, h, S, p).
    """
    looks: dict[int, Tensor] = {}

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **how: Any
    ) -> tuple[Tensor, None]:
        of_video, values = videos[module.layer_idx]
        num_videos, _, num_before, _ = of_video.shape
        length = query.shape[2]
        # (B * M, h, S, d) -> (B, h, M * S, d): all turns of a video in one product.
        queries: Any = query
        asked = queries.unflatten(0, (num_videos, -1)).transpose(1, 2).flatten(2, 3)
        before = (asked @ of_video.mT).unflatten(2, (-1, length)).transpose(1, 2).flatten(0, 1)
        own = query @ key.mT
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = torch.cat([before, own.masked_fill(later, float("-inf"))], dim=-1)
        weights = (scores.float() * how["scaling"]).softmax(dim=-1)
        looks[module.layer_idx] = weights[..., :num_before]
        weights = weights.to(query.dtype)
        of_before = weights[..., :num_before].unflatten(0, (num_videos, -1)).transpose(1, 2)
        told = (of_before.flatten(2, 3) @ values).unflatten(2, (-1, length)).transpose(1, 2)
        told = told.flatten(0, 1) + weights[..., num_before:] @ value
        return told.transpose(1, 2).contiguous(), None

    usual = model.config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, attend)
    model.config._attn_implementation = _ATTENTION
    try:
        yield looks
    finally:
        model.config._attn_implementation = usual


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
