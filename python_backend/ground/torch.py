"""The grounding stage in PyTorch: the reference numerics, and on a GPU the path without engines."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.arrays import Array, to_torch
from python_backend.cuda import fused_kernels, place

if TYPE_CHECKING:
    from groundserve.families.modules import GroundingModule


class TorchGrounder:
    """Runs a family's `GroundingModule`."""

    def __init__(
        self, model: GroundingModule, *, device: str = "cpu", in_turn: bool = False
    ) -> None:
        place(model, model.config, model.layers, device=device, in_turn=in_turn)
        # Not from a weight: in turn, that of a layer is elsewhere.
        self._device = torch.device(device)
        self._dtype = next(model.parameters()).dtype
        self._model = model

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Implement `Grounder.ground`."""
        on_gpu = self._device.type == "cuda"
        with torch.inference_mode(), fused_kernels() if on_gpu else nullcontext():
            logits = self._model(
                # (T, P, D), float32 or float16 as the encoder has left them.
                to_torch(features, self._device).to(self._dtype),
                to_torch(text_ids, self._device),
            )
            frame_logits: NDArray[np.float32] = logits.cpu().numpy()
        return frame_logits
