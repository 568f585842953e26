"""The grounding stage in PyTorch: the reference numerics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from groundserve.modeling.grounding import GroundingModel


class TorchGrounder:
    """Runs `groundserve.modeling.grounding`."""

    def __init__(self, model: GroundingModel) -> None:
        self._model = model

    def ground(
        self, features: NDArray[np.float32], text_ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `Grounder.ground`."""
        import torch

        with torch.inference_mode():
            logits = self._model(torch.from_numpy(features), torch.from_numpy(text_ids))
            frame_logits: NDArray[np.float32] = logits.numpy()
        return frame_logits
