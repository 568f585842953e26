"""The stages of a checkpoint in PyTorch; importing this imports PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from groundserve.engines.manifest import Manifest
from groundserve.families.base import FamilyCheckpoint, TextCheckpoint
from groundserve.families.modules import FrontModule
from groundserve.weights.tensors import torch_dtype
from python_backend.encode.torch import TorchEncoder
from python_backend.generate import Generator
from python_backend.generate.torch import TorchDecoder, TorchFront
from python_backend.ground.torch import TorchGrounder


def open_encoder(
    checkpoint: FamilyCheckpoint | TextCheckpoint, manifest: Manifest, *, num_threads: int
) -> TorchEncoder:
    """Read a checkpoint's vision stage in the manifest's arithmetic."""
    _use_threads(num_threads)
    dtype = torch_dtype(manifest.precision)
    model = checkpoint.load_vision(dtype=dtype, device=manifest.device)
    return TorchEncoder(model, device=manifest.device)


def open_grounder(
    checkpoint: FamilyCheckpoint, manifest: Manifest, *, num_threads: int
) -> TorchGrounder:
    """Read a checkpoint's grounding stage in the manifest's arithmetic."""
    _use_threads(num_threads)
    dtype = torch_dtype(manifest.precision)
    model = checkpoint.load_grounding(dtype=dtype, device=manifest.device)
    return TorchGrounder(model, device=manifest.device)


def open_generator(
    checkpoint: TextCheckpoint, manifest: Manifest, *, num_threads: int
) -> Generator:
    """Read a checkpoint's front and decoder in the manifest's arithmetic."""
    _use_threads(num_threads)
    dtype, device = torch_dtype(manifest.precision), manifest.device
    decoder = checkpoint.load_decoder(dtype=dtype, device=device)
    front = checkpoint.load_front(dtype=dtype, device=device)
    return make_generator(front, decoder, device=device)


def make_generator(front: FrontModule, decoder: PreTrainedModel, *, device: str) -> Generator:
    """Return the generation stage of what makes the video's block, and transformers' decoder."""
    return Generator(
        front=TorchFront(front, decoder.get_input_embeddings(), device=device),
        decoder=TorchDecoder(decoder, device=device),
    )


def open_front(checkpoint: TextCheckpoint, table: Path, manifest: Manifest) -> TorchFront:
    """Read a checkpoint's front, and the table of text embeddings that a build wrote."""
    dtype, device = torch_dtype(manifest.precision), manifest.device
    rows = torch.from_numpy(np.load(table, allow_pickle=False)).to(dtype)
    front = checkpoint.load_front(dtype=dtype, device=device)
    embeddings = torch.nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows)
    return TorchFront(front, embeddings, device=device)


def _use_threads(num_threads: int) -> None:
    """Have PyTorch use so many, in the whole process: it knows no threads of a model alone."""
    torch.set_num_threads(num_threads)
