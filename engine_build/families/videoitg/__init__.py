"""VideoITG in engines for a GPU: see `engine_build.families.GpuFamily`."""

from __future__ import annotations

from pathlib import Path

from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from groundserve.engines.profiles import Precision
from groundserve.families.videoitg import decoder
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.weights.tensors import torch_dtype


def vision_encoder(checkpoint: Checkpoint, *, precision: Precision) -> MixedVisionEncoder:
    """Read the vision stage, with products in 16 bit."""
    return MixedVisionEncoder(checkpoint.load_vision(), dtype=torch_dtype(precision))


def token_scorer(
    checkpoint: Checkpoint, *, precision: Precision, max_tokens: int
) -> MixedTokenScorer:
    """Read decoder and head, with products in 16 bit."""
    dtype = torch_dtype(precision)
    # Read in 16 bits: the released model takes 15 GB so, and twice that in float32.
    model = checkpoint.load_grounding(dtype=dtype)
    return MixedTokenScorer(model, dtype=dtype, max_tokens=max_tokens)


def write_embeddings(checkpoint: Checkpoint, path: Path, *, precision: Precision) -> None:
    """Write projector and table in the engine's dtype."""
    decoder.write_embeddings(checkpoint.load_grounding(dtype=torch_dtype(precision)), path)
