"""The generation stage in PyTorch: a family's front and a causal decoder of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from groundserve.families.rotary import RotaryTables
from python_backend.arrays import Array, to_torch
from python_backend.generate.base import check_token_ids
from python_backend.generate.torch_past import TorchPast
from python_backend.interruption import look_before

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from groundserve.families.modules import FrontModule


class TorchFront:
    """Runs a family's `FrontModule` beside the decoder's table of text embeddings."""

    def __init__(
        self, module: FrontModule, embeddings: nn.Embedding, *, device: str = "cpu"
    ) -> None:
        self._module = module.to(device)
        self._embeddings = embeddings.to(device)

    def embed_video(self, features: Array, inputs: Sequence[NDArray[np.float32]]) -> Tensor:
        """Return the video's block, (N, H)."""
        weight = self._embeddings.weight
        # As they come: in 16 bits a second may be another one, and features may be pooled first.
        arrays = [to_torch(one, weight.device) for one in (features, *inputs)]
        with torch.inference_mode():
            block: Tensor = self._module(*arrays).to(weight.dtype)
        return block

    def embed_text(self, token_ids: NDArray[np.int64]) -> Tensor:
        """Return (S, H), rows of the table."""
        check_token_ids(token_ids, self._embeddings.num_embeddings)
        with torch.inference_mode():
            rows: Tensor = self._embeddings(to_torch(token_ids, self._embeddings.weight.device))
        return rows


class TorchDecoder:
    """Runs a causal model of transformers."""

    def __init__(self, model: PreTrainedModel, *, device: str = "cpu") -> None:
        self._model = model.to(device)
        if device == "cpu":
            look_before(model.get_decoder().layers)
        # Those of transformers know one regime, or choose by the length of a pass.
        self._rotary = next((one for one in model.modules() if isinstance(one, RotaryTables)), None)

    def regime(self, num_positions: int) -> int:
        """Return the regime of sequences of so many positions."""
        return 0 if self._rotary is None else self._rotary.regime(num_positions)

    def begin(self, max_positions: int) -> TorchPast:
        """Return a past without a position."""
        return TorchPast(self._model.config.num_hidden_layers, max_positions)

    def extend(
        self,
        embeddings: Array,
        past: TorchPast,
        *,
        regime: int,
        position_ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Compute further positions, of whose last the logits are returned."""
        told: Tensor | None = None
        if position_ids is not None:
            first = 0 if self._rotary is None else regime * self._rotary.max_positions
            # (1, S), or (A, 1, S) on several axes
            axes = position_ids if len(position_ids) == 1 else position_ids[:, None]
            told = to_torch(axes + first, self._model.device)
        elif self._rotary is not None:
            told = self._rotary.position_ids(past.num_positions, len(embeddings), regime=regime).to(
                self._model.device
            )
        with torch.inference_mode():
            logits = self._model(
                inputs_embeds=to_torch(embeddings, self._model.device)[None],
                position_ids=told,
                past_key_values=past.cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            # (1, 1, V)
            last: NDArray[np.float32] = logits[0, -1].to(torch.float32).cpu().numpy()
        return last
