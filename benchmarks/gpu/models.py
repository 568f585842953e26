"""Random weights and inputs, made where they are used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.gpu.size import Size
from benchmarks.gpu.timing import is_gpu
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import pooling_weights
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.weights.tensors import fill_module
from python_backend.arrays import Array
from python_backend.encode.torch import TorchEncoder
from python_backend.ground.torch import TorchGrounder

_STANDARD_DEVIATION = 0.02


def fill_with_noise(model: nn.Module, *, dtype: torch.dtype, device: str, seed: int) -> None:
    """Give a module on the meta device random weights: N(0, 0.02), norms' weights about 1."""
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {
        name: torch.empty(tensor.shape, dtype=dtype, device=device).normal_(
            1.0 if "norm" in name and name.endswith("weight") else 0.0,
            _STANDARD_DEVIATION,
            generator=generator,
        )
        for name, tensor in model.state_dict().items()
    }
    fill_module(model, tensors)
    model.to(device).eval().requires_grad_(False)


def random_grounding(
    size: Size, *, dtype: torch.dtype, device: str, num_layers: int | None = None
) -> GroundingModel:
    """Return projector, decoder and head; all layers where `num_layers` is None."""
    config = size.checkpoint
    if num_layers is not None:
        config = replace(config, num_hidden_layers=num_layers)
    with torch.device("meta"):
        model = GroundingModel(config)
    fill_with_noise(model, dtype=dtype, device=device, seed=1)
    return model


def random_vision(size: Size, *, dtype: torch.dtype, device: str) -> VisionEncoder:
    """Return the tower up to the layer that is used."""
    with torch.device("meta"):
        model = VisionEncoder(size.tower, select_layer=size.checkpoint.mm_vision_select_layer)
    fill_with_noise(model, dtype=dtype, device=device, seed=2)
    return model


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One video and one question, the frames on the device."""

    frames: Tensor
    """uint8 (T, side, side, 3), noise."""
    pooling: NDArray[np.float32]
    """(g, s)."""
    text_ids: NDArray[np.int64]
    """(Q,)."""


def random_request(size: Size, num_frames: int, *, device: str) -> Request:
    """Return noise of a request's shapes."""
    generator = torch.Generator(device).manual_seed(3)
    side = size.tower.image_size
    frames = torch.randint(
        0, 256, (num_frames, side, side, 3), dtype=torch.uint8, device=device, generator=generator
    )
    vocab_size = size.checkpoint.vocab_size
    return Request(
        frames=frames,
        pooling=pooling_weights(size.grid(num_frames), side=size.tower.side),
        text_ids=np.random.default_rng(4).integers(0, vocab_size, size.num_text_tokens),
    )


@dataclass(kw_only=True)
class Bench:
    """What the parts share; the models are made by the first part that needs them."""

    size: Size
    device: str
    ceiling_tflops: float | None = None
    """Matrix products' rate in the served dtype, once it was measured."""
    _stages: tuple[TorchEncoder, TorchGrounder] | None = field(default=None, repr=False)

    @property
    def dtype(self) -> torch.dtype:
        """What is served: bfloat16 on a GPU, float32 on a CPU."""
        return torch.bfloat16 if is_gpu(self.device) else torch.float32

    @property
    def stages(self) -> tuple[TorchEncoder, TorchGrounder]:
        """Both stages as they are served, with random weights."""
        if self._stages is None:
            place: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
            self.vision = random_vision(self.size, **place)
            self.grounding = random_grounding(self.size, **place)
            self._stages = (
                TorchEncoder(self.vision, device=self.device),
                TorchGrounder(self.grounding, device=self.device),
            )
        return self._stages

    def encode(self, request: Request) -> Array:
        """Run the vision stage."""
        return self.stages[0].encode(request.frames, request.pooling[None])

    def ground(self, features: Array, request: Request) -> NDArray[np.float32]:
        """Run the grounding stage."""
        return self.stages[1].ground(features, request.text_ids)


def relative_error(got: Array, expected: Array) -> float:
    """Return the norm of the difference over the norm of what is expected."""
    left, right = (
        torch.as_tensor(array).detach().to("cpu", torch.float64) for array in (got, expected)
    )
    return float(torch.linalg.vector_norm(left - right) / torch.linalg.vector_norm(right))
