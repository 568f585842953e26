"""The reference's cases by our model in float64, and how far a float32 engine may be from that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from tests.support.reference import ReferenceCase
from tests.support.rounding import NUM_DRAWS, error_bound, exactly, rounded

DEADLINE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Float64Model:
    """A checkpoint in float64, with attention in elementary operations."""

    vision: VisionEncoder
    grounding: GroundingModel
    max_tokens: int
    vision_token_num: int

    @classmethod
    def open(cls, path: Path) -> Float64Model:
        """Load a checkpoint in the reference's layout."""
        checkpoint = Checkpoint.open(path)
        vision, grounding = checkpoint.load_vision(), checkpoint.load_grounding()
        grounding.decoder.config._attn_implementation = "eager"
        assert checkpoint.config.tokenizer_model_max_length is not None
        return cls(
            vision=vision.double(),
            grounding=grounding.double(),
            max_tokens=checkpoint.config.tokenizer_model_max_length,
            vision_token_num=checkpoint.config.vision_token_num,
        )

    def grid(self, num_frames: int) -> int:
        """Return the side of a frame's square of tokens."""
        return grid_side(num_frames, vision_token_num=self.vision_token_num, side=self.vision.side)

    def features(self, frames: NDArray[np.uint8]) -> Tensor:
        """Encode uint8 (T, S, S, 3)."""
        weights = pooling_weights(self.grid(len(frames)), side=self.vision.side)
        weights = weights.astype(np.float64)
        pool = torch.from_numpy(weights).expand(len(frames), -1, -1)
        return self.vision(torch.from_numpy(frames), pool)

    def logits(self, features: NDArray[np.float64], text_ids: NDArray[np.int64]) -> Tensor:
        """Score the frames of one video for one question."""
        return self.grounding(torch.from_numpy(features), torch.from_numpy(text_ids))


@dataclass(frozen=True, kw_only=True)
class Exact:
    """One case in float64."""

    logits: NDArray[np.float64]
    bound: float
    """How far float32 may be away."""


@cache
def decode(clip: Path, frame_indices: tuple[int, ...], image_size: int | None) -> NDArray[np.uint8]:
    """Return frames as they are decoded, or resized to (T, S, S, 3)."""
    limits, deadline = Limits(), Deadline.after(DEADLINE_SECONDS)
    with (
        MediaWorkers(limits=limits) as workers,
        VideoSource.from_path(clip, limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        return video.decode(video.cut(np.array(frame_indices)), image_size=image_size)


@cache
def open_float64(checkpoint: Path) -> Float64Model:
    """Open a checkpoint once."""
    return Float64Model.open(checkpoint)


@cache
def tokenizer_of(checkpoint: Path) -> QueryTokenizer:
    """Open a checkpoint's tokenizer once."""
    tokenizer, pad_token_id = Checkpoint.open(checkpoint).load_tokenizer()
    return QueryTokenizer(tokenizer, pad_token_id=pad_token_id)


def kept_text_ids(case: ReferenceCase) -> NDArray[np.int64]:
    """Return the question's tokens, of a question that does not fit those that are left of it."""
    model, num_frames = open_float64(case.checkpoint), len(case.frame_indices)
    num_visual = num_frames * model.grid(num_frames) ** 2
    return tokenizer_of(case.checkpoint).text_ids(case.query)[: model.max_tokens - num_visual]


@cache
def exact(case: ReferenceCase, clip: Path) -> Exact:
    """Compute a case in float64, and with the roundings of float32."""
    model, text_ids = open_float64(case.checkpoint), kept_text_ids(case)
    features, *drawn = _features(case.checkpoint, clip, tuple(case.frame_indices))
    logits = exactly(model.logits, features, text_ids)
    draws = [
        rounded(model.logits, features, text_ids, seed=seed) for seed, features in enumerate(drawn)
    ]
    return Exact(logits=logits, bound=error_bound(logits, draws))


@cache
def _features(
    checkpoint: Path, clip: Path, frame_indices: tuple[int, ...]
) -> list[NDArray[np.float64]]:
    """Return the features of a case, then each draw of them with roundings."""
    model = open_float64(checkpoint)
    frames = decode(clip, frame_indices, model.vision.image_size)
    draws = [rounded(model.features, frames, seed=seed) for seed in range(NUM_DRAWS)]
    return [exactly(model.features, frames), *draws]
