"""What is trained: one trunk, the three ways it is read, and the losses over a local batch.

`CausalModel` writes text (stages 1 to 3); `PoolingModel` (variant C, what is served) and
`AnchorModel` (variant B) score frames (stage 4). Variant A, frame numbers written as text, needs
no class of its own: it is a `CausalModel` on other conversations; it is not wired up.

Shape letters: T frames, P = g*g tokens a frame, D_v vision width, D decoder width, B sequences,
S positions of the longest, N = T*P visual tokens, A auxiliary targets, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from groundserve.families.videoitg.checkpoint import reference_names
from groundserve.families.videoitg.config import CheckpointConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import pooling_weights
from groundserve.families.videoitg.vision import VisionEncoder
from train.config import Stage, Variant
from train.examples import Example, Text
from train.families.base import Losses, TrainedModel
from train.families.language import next_token_loss, splice, spread_targets

MAX_ENCODED_FRAMES = 64
"""Frames that go through the tower at once: a frame's softmax alone takes 34 MB in float32 at full
size, and a sample may have 1,024. (The reference's chunks have 384.)"""


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    embeds: Tensor  # (length, D)
    num_frames: int
    visual_start: int
    num_visual: int

    def visual(self, states: Tensor) -> Tensor:
        """Return the states (T, P, D) of a row (S, D) of the output."""
        states = states[self.visual_start : self.visual_start + self.num_visual]
        return states.reshape(self.num_frames, -1, states.shape[-1])


class Trunk(TrainedModel):
    """Projector and decoder, which all models share under the same names.

    Without auxiliary targets (A = 0) there is no such layer and loss.
    """

    is_causal: bool

    def __init__(
        self, config: CheckpointConfig, *, num_auxiliary: int = 0, auxiliary_weight: float = 0.0
    ) -> None:
        super().__init__()
        # The parts of the model that is served, under the names that its files are mapped from.
        served = GroundingModel(config)
        self.projector = served.projector
        self.decoder = served.decoder
        self.auxiliary_weight = auxiliary_weight
        self.auxiliary = nn.Linear(config.hidden_size, num_auxiliary) if num_auxiliary else None

    def forward(self, examples: Sequence[Example], features: Sequence[Tensor]) -> Losses:
        """Compute the loss of a batch; raises ValueError where the auxiliary has no targets."""
        texts = [text for example in examples for text in example.texts]
        sequences = []
        for example, feature in zip(examples, features, strict=True):
            visual = self.projector(feature)  # (T, P, D), once for all questions
            sequences += [self.build_sequence(visual, text) for text in example.texts]
        hidden_states = self._decode([sequence.embeds for sequence in sequences])
        losses = self.read(sequences, texts, hidden_states)
        if self.auxiliary is None or not losses.parts:  # without parts there are scores only
            return losses
        if any(example.frame_targets is None for example in examples):
            raise ValueError("auxiliary_weight > 0 needs records that say what each frame shows")
        targets = [
            torch.as_tensor(example.frame_targets, device=hidden_states.device)
            for example in examples
            for _ in example.texts
        ]
        states = [
            sequence.visual(row).mean(dim=1)  # (T, D)
            for sequence, row in zip(sequences, hidden_states, strict=True)
        ]
        auxiliary = frame_loss(self.auxiliary(torch.cat(states)), torch.cat(targets))
        return replace(
            losses,
            loss=losses.loss + self.auxiliary_weight * auxiliary,
            parts={**losses.parts, "auxiliary": auxiliary.detach()},
        )

    def file_name(self, parameter: str) -> str:
        """Return how the reference's files call a parameter."""
        # The first argument is the tower's tensors: it is frozen and no part of this model.
        (name,) = reference_names({}, {parameter: self.get_parameter(parameter)})
        return name

    def build_sequence(self, visual: Tensor, text: Text) -> _Sequence:
        """Put the visual tokens (T, P, D) where the text has its placeholder."""
        flat = visual.flatten(0, 1)  # frame-major
        place, embeds = splice(self.decoder.embed_tokens, text, flat)
        return _Sequence(
            embeds=embeds,
            num_frames=len(visual),
            visual_start=place,
            num_visual=len(flat),
        )

    def read(self, sequences: list[_Sequence], texts: list[Text], hidden_states: Tensor) -> Losses:
        """Turn the decoder's output (B, S, D), padded on the right, into the model's own loss."""
        raise NotImplementedError

    def _decode(self, embeds: list[Tensor]) -> Tensor:
        """Run the decoder on sequences padded on the right: -> (B, S, D)."""
        padded = pad_sequence(embeds, batch_first=True)
        # Nothing real comes after padding, so a causal model needs no mask against it.
        attention: dict[str, object] = {"is_causal": True}
        if not self.is_causal:
            # A dict is what transformers takes as masks that are made already, one for each kind of
            # layer; from a tensor it would make a causal one. None: nothing is masked.
            attention = {"attention_mask": {"full_attention": None}, "is_causal": False}
            lengths = torch.tensor([len(embed) for embed in embeds], device=padded.device)
            if int(lengths.min()) < padded.shape[1]:
                # (B, S), then (B, 1, 1, S): the same for every head and query
                real = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
                attention["attention_mask"] = {"full_attention": real[:, None, None, :]}
        output = self.decoder(inputs_embeds=padded, use_cache=False, **attention)
        return cast(Tensor, output.last_hidden_state)


class CausalModel(Trunk):
    """Writes text about what it sees: the model of stages 1 to 3."""

    is_causal = True

    def __init__(self, config: CheckpointConfig, **auxiliary: Any) -> None:
        super().__init__(config, **auxiliary)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def read(self, sequences: list[_Sequence], texts: list[Text], hidden_states: Tensor) -> Losses:
        """Predict every text token that has a target."""
        targets = [
            spread_targets(text, num_visual=sequence.num_visual)
            for text, sequence in zip(texts, sequences, strict=True)
        ]
        loss = next_token_loss(self.lm_head, hidden_states, targets)
        return Losses(loss=loss, parts={"language": loss.detach()})


class FrameModel(Trunk):
    """Scores frames by one linear layer."""

    def __init__(self, config: CheckpointConfig, **auxiliary: Any) -> None:
        super().__init__(config, **auxiliary)
        self.head = nn.Linear(config.hidden_size, 1)

    def read(self, sequences: list[_Sequence], texts: list[Text], hidden_states: Tensor) -> Losses:
        """Score each frame by its states."""
        pairs = zip(sequences, hidden_states, strict=True)
        states = [self.frame_states(sequence, row) for sequence, row in pairs]
        # (F, D) -> (F, 1) -> (F,), F frames of all sequences; the loss is in float32.
        frame_logits = self.head(torch.cat(states)).squeeze(1).float()
        split = frame_logits.detach().split([len(state) for state in states])
        if any(text.labels is None for text in texts):  # nothing to learn from: scores only
            return Losses(loss=frame_logits.sum() * 0.0, frame_logits=list(split))
        labels = [torch.as_tensor(text.labels, device=frame_logits.device) for text in texts]
        # Over the whole batch, not a mean of sequences: the reference's weight counts its frames.
        loss = grounding_loss(frame_logits, torch.cat(labels))
        return Losses(loss=loss, parts={"grounding": loss.detach()}, frame_logits=list(split))

    def frame_states(self, sequence: _Sequence, row: Tensor) -> Tensor:
        """Return (T, D) of a row (S, D) of the output."""
        raise NotImplementedError


class PoolingModel(FrameModel):
    """Variant C: full attention, the mean of a frame's outputs."""

    is_causal = False

    def frame_states(self, sequence: _Sequence, row: Tensor) -> Tensor:
        """Return the mean of each frame's tokens."""
        return sequence.visual(row).mean(dim=1)


class AnchorModel(FrameModel):
    """Variant B: causal attention; behind the question one token a frame, which is classified.

    The token of a frame is the mean of its visual tokens. Source: the paper (arXiv 2507.13353);
    its code was not released.
    """

    is_causal = True

    def build_sequence(self, visual: Tensor, text: Text) -> _Sequence:
        """Append the anchors."""
        sequence = super().build_sequence(visual, text)
        return replace(sequence, embeds=torch.cat([sequence.embeds, visual.mean(dim=1)]))

    def frame_states(self, sequence: _Sequence, row: Tensor) -> Tensor:
        """Return the last T positions; the row goes on with padding."""
        return row[len(sequence.embeds) - sequence.num_frames : len(sequence.embeds)]


def model_class(stage: Stage, variant: Variant) -> type[Trunk]:
    """Return the class that a stage trains."""
    if stage != "grounding":
        return CausalModel
    return {"pooling": PoolingModel, "anchor": AnchorModel}[variant]


@torch.no_grad()
def encode_frames(vision: VisionEncoder, examples: Sequence[Example]) -> list[Tensor]:
    """Encode and pool the frames of a batch to (T, P, D_v); those of one grid go together."""
    device = vision.embeddings.patch_embedding.weight.device
    features: list[Tensor | None] = [None] * len(examples)
    for num_tokens in {example.tokens_per_frame for example in examples}:
        members = [i for i, one in enumerate(examples) if one.tokens_per_frame == num_tokens]
        # uint8 (T of all members, S, S, 3), on the CPU until its chunk is encoded
        frames = torch.cat([torch.from_numpy(examples[i].frames) for i in members])
        # (g, side), with g * g = P
        pool = torch.from_numpy(pooling_weights(math.isqrt(num_tokens), side=vision.side))
        pool = pool.to(device)
        chunks = torch.split(frames, MAX_ENCODED_FRAMES)
        pooled = torch.cat([vision(c.to(device), pool.expand(len(c), -1, -1)) for c in chunks])
        sizes = [len(examples[i].frames) for i in members]
        for i, part in zip(members, torch.split(pooled, sizes), strict=True):
            features[i] = part
    return cast(list[Tensor], features)


# The reference's, see `grounding_loss`.
MAX_POSITIVE_WEIGHT = 5.0


def grounding_loss(frame_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with the reference's weight on relevant frames, in float32.

    The weight is min(5, sqrt(M / max(1, P))) for P relevant and M other frames. With no other
    frames it is 0 and so is the loss; with no relevant frames it has no effect. Both arguments are
    (F,), of all frames of all sequences of the local batch.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/model/language_model/grounding_qwen2.py::EagleQwenG.forward`.
    """
    labels = labels.float()
    num_positive = labels.sum()
    num_negative = labels.numel() - num_positive
    weight = (num_negative / num_positive.clamp(min=1)).sqrt().clamp(max=MAX_POSITIVE_WEIGHT)
    return F.binary_cross_entropy_with_logits(frame_logits.float(), labels, pos_weight=weight)


def frame_loss(frame_logits: Tensor, frame_targets: Tensor) -> Tensor:
    """Mean binary cross-entropy on what each frame shows, in float32."""
    return F.binary_cross_entropy_with_logits(frame_logits.float(), frame_targets.float())
