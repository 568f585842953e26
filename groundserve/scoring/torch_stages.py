"""The stages in PyTorch, for the gates and `groundserve doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.families.modules import GroundingModule, VisionModule
from python_backend.arrays import to_host
from python_backend.encode import VisionEncoder
from python_backend.encode.torch import TorchEncoder
from python_backend.generate import Generator
from python_backend.generate.torch import TorchDecoder, TorchFront
from python_backend.ground import Grounder
from python_backend.ground.torch import TorchGrounder


def encode(encoder: VisionEncoder, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return (units, P, D) on this machine's memory."""
    return to_host(encoder.encode(*inputs))


def open_encoder(vision: VisionModule, *, device: str = "cpu") -> VisionEncoder:
    """Open the vision stage."""
    return TorchEncoder(vision, device=device)


def open_grounder(grounding: GroundingModule, *, device: str = "cpu") -> Grounder:
    """Open the grounding stage, on a GPU with one layer of the decoder there at a time."""
    return TorchGrounder(grounding, device=device, in_turn=device != "cpu")


def open_generator(front: Any, decoder: Any, *, device: str = "cpu") -> Generator:
    """Open the generation stage: what makes the video's block, and transformers' decoder."""
    return Generator(
        front=TorchFront(front, decoder.get_input_embeddings(), device=device),
        decoder=TorchDecoder(decoder, device=device),
    )
