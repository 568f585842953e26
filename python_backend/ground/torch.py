"""The grounding stage in PyTorch: the reference numerics, and on a GPU the path without engines."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_torch

if TYPE_CHECKING:
    from groundserve.families.videoitg.decoder import GroundingModel


class TorchGrounder:
    """Runs `groundserve.families.videoitg.decoder`."""

    def __init__(
        self, model: GroundingModel, *, device: str = "cpu", in_turn: bool = False
    ) -> None:
        """Move the model to where it runs.

        Args:
            model: In the dtype it computes in; on a CPU float32.
            device: `cpu`, `cuda` or `cuda:1`.
            in_turn: As `python_backend.cuda.place` takes it.
        """
        from python_backend.cuda import place

        decoder = model.decoder
        place(model, decoder.config, decoder.layers, device=device, in_turn=in_turn)
        self._model = model

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Grounder.ground`."""
        import torch

        from python_backend.cuda import fused_kernels

        weight = self._model.head.weight
        with torch.inference_mode(), fused_kernels() if weight.is_cuda else nullcontext():
            logits = self._model(
                # (T, g*g, D_v), float32 or float16 as the encoder has left them.
                to_torch(features, weight.device).to(weight.dtype),
                to_torch(text_ids, weight.device),
            )
            frame_logits: NDArray[np.float32] = logits.cpu().numpy()
        return frame_logits
