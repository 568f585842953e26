"""What the sources and starts of families that answer in text have in common."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID
from groundserve.families.text_checkpoint import causal_decoder_flop
from train.config import StageConfig
from train.examples import IGNORE_INDEX, Example, Text
from train.families.base import SampleCost, SampleFlops
from train.families.text_model import TextModel
from train.families.text_reader import TextSamples


class TextSource(ABC):
    """A `train.families.base.Source`; no weights are read."""

    decoder_config: Any
    """Of transformers, with the rows that this stage's tables have."""
    num_pooled: int | None = None
    """Visual tokens of any video, where they are pooled."""
    adapts_mlp = True
    """Whether there are adapters beside those of attention."""

    @abstractmethod
    def samples(self, config: StageConfig) -> TextSamples:
        """Return the format of a run's samples."""

    @abstractmethod
    def unit_flop(self) -> float:
        """Return the arithmetic of the frozen towers for one unit; 0 where none is there."""

    def sample_cost(self, config: StageConfig) -> SampleCost:
        """Count what samples are dealt to processes by.

        The decoder's own weights are frozen: of them gradients pass through, none are made.
        """
        decoder, forward = self.decoder_config, 1 + config.gradient_checkpointing
        head_size = getattr(decoder, "head_dim", None)
        head_size = head_size or decoder.hidden_size // decoder.num_attention_heads
        pair = 2 * decoder.num_hidden_layers * decoder.num_attention_heads * head_size
        token = (forward + 1) * (causal_decoder_flop(decoder, 1) - pair)
        if config.adapter is not None:
            token += (forward + 2) * 2 * self._adapter_size(config.adapter.rank)
        return SampleCost(frame=self.unit_flop(), token=token, pair=(forward + 2) * pair)

    def sample_flops(
        self,
        config: StageConfig,
        *,
        num_frames: int,
        tokens_per_frame: int,
        num_text_tokens: int,
        num_targets: int = 0,
    ) -> SampleFlops:
        """Return what one sequence costs in training; projectors, below a percent, are left out."""
        cost = self.sample_cost(config)
        num_tokens = (self.num_pooled or num_frames * tokens_per_frame) + num_text_tokens
        head = 2 * num_targets * self.decoder_config.hidden_size * self.decoder_config.vocab_size
        return SampleFlops(
            tower=num_frames * cost.frame,
            decoder=num_tokens * cost.token + num_tokens**2 * cost.pair + 3 * head,
        )

    def _adapter_size(self, rank: int) -> int:
        decoder = self.decoder_config
        width, inner = decoder.hidden_size, decoder.intermediate_size
        key_width = width * decoder.num_key_value_heads // decoder.num_attention_heads
        # Q and the output, K and V; gate, up and down: both sides of each layer.
        sides = 4 * width + 2 * (width + key_width) + 3 * (width + inner) * self.adapts_mlp
        return int(decoder.num_hidden_layers * rank * sides)


class NoVision(nn.Module):
    """Stands for the towers where features were extracted before."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.place = nn.Parameter(torch.empty(0))  # says device and dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class TextInitial(ABC):
    """A `train.families.base.Initial`."""

    source: Any
    """A `TextSource`, which is asked what an initial is that needs no weights."""
    model: TextModel
    """float32 on the CPU, in training mode; what the stage trains requires a gradient."""
    vision: nn.Module
    """float32, frozen, in evaluation mode."""
    feature_shape: tuple[int, int]
    """(P, D_v) of what `encode` gives for one unit."""

    max_encoded_units = 16
    """Units that go through the towers at once."""

    def samples(self, config: StageConfig) -> TextSamples:
        """Return the format of a run's samples."""
        samples: TextSamples = self.source.samples(config)
        return samples

    def sample_cost(self, config: StageConfig) -> SampleCost:
        """Return by what a run's samples are dealt to processes."""
        cost: SampleCost = self.source.sample_cost(config)
        return cost

    def sample_flops(self, config: StageConfig, **sizes: int) -> SampleFlops:
        """Return what one sequence costs in training."""
        flops: SampleFlops = self.source.sample_flops(config, **sizes)
        return flops

    @torch.no_grad()
    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Encode the units of each, or take the features that it has."""
        like = next(self.vision.parameters())
        return [self._encode(example, like) for example in examples]

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """Return one unit of features that are zero, and a text of which nothing is learnt."""
        nothing = np.array([IGNORE_INDEX] * 2, np.int64)
        return Example(
            frames=np.empty((1, 0, 0, 3), np.uint8),
            tokens_per_frame=self.feature_shape[0],
            texts=(Text(ids=np.array([VISUAL_TOKEN_ID, 0], np.int64), targets=nothing),),
            features=np.zeros((1, *self.feature_shape), np.float32),
        )

    @abstractmethod
    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write a checkpoint that serving, the next stage and the reference read."""

    def _encode(self, example: Example, like: Tensor) -> Tensor:
        if example.features is not None:
            if example.features.shape[1:] != self.feature_shape:
                raise InvalidRequestError(
                    f"features must be (U, {', '.join(map(str, self.feature_shape))}), as the "
                    f"model takes them, got {example.features.shape}; extract them with its tower"
                )
            return torch.from_numpy(example.features).to(like)
        if isinstance(self.vision, NoVision):
            raise InvalidRequestError(
                "a record names a video, and init holds no vision tower to encode it with; put the "
                "tower into init, or extract features"
            )
        streams = [torch.from_numpy(one) for one in (example.frames, *example.more_streams)]
        chunks = zip(*(torch.split(one, self.max_encoded_units) for one in streams), strict=True)
        return torch.cat([self.vision(*(one.to(like.device) for one in chunk)) for chunk in chunks])


def check_adapter(config: StageConfig, *, rank: int, alpha: float) -> None:
    """Refuse an adapter other than the one that a file can hold which does not say its sizes."""
    adapter = config.adapter
    if adapter is None or (adapter.rank, adapter.alpha) != (rank, alpha):
        got = f"{adapter.rank} and {adapter.alpha:g}" if adapter else "none"
        raise InvalidRequestError(
            f"adapter must have rank {rank} and alpha {alpha:g}: the files that it is written to "
            f"do not say them, got {got}"
        )


def write_stage(directory: Path, config: StageConfig) -> None:
    """Write by what `train` knows a checkpoint that it wrote."""
    (directory / "config.json").write_text(json.dumps({"stage": config.stage}) + "\n", "utf-8")


def link_file(source: Path, place: Path) -> None:
    """Let a checkpoint have a file that training leaves as it is, without a copy if possible."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), place)
    except OSError:  # of another file system, or one without links
        shutil.copyfile(source, place)
