"""The grounding stage of a GPU engine: a PyTorch front, the engine's decoder, a mean a frame.

Shape letters: T frames, each a unit of P tokens, N = T * P, L text tokens, S = N + L, D decoder
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.arrays import Array, to_torch
from python_backend.ground.base import TokenScorer

if TYPE_CHECKING:
    from torch import Tensor

    from groundserve.families.modules import GroundingFront


class EngineGrounder:
    """Projects features and looks up text in PyTorch, scores tokens in an engine.

    The embedding table stays out of the engine: a request reads some hundred of its rows.
    """

    def __init__(self, front: GroundingFront, scorer: TokenScorer) -> None:
        self._projector, self._embed_tokens = front
        self._scorer = scorer

    @property
    def max_num_tokens(self) -> int:
        """Implement `PackedGrounder.max_num_tokens`."""
        return self._scorer.max_num_tokens

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Implement `Grounder.ground`."""
        frame_logits: NDArray[np.float32] = self.ground_packed(features, [text_ids])[0]
        return frame_logits

    def ground_packed(
        self, features: Array, text_ids: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Implement `PackedGrounder.ground_packed`."""
        num_frames, tokens_per_frame, _ = features.shape
        num_visual = num_frames * tokens_per_frame
        with torch.inference_mode():
            visual = self._project(features)  # (N, D), the same for every question
            scores = self._scorer.score([self._append_text(visual, ids) for ids in text_ids])
            # (q, N): the visual tokens come first, the text's scores are not used.
            visual_scores = torch.stack([one[:num_visual] for one in scores])
            # (q, T, P) -> (q, T): tokens of a frame lie together.
            frame_logits = visual_scores.reshape(-1, num_frames, tokens_per_frame).mean(dim=2)
            logits: NDArray[np.float32] = frame_logits.cpu().numpy()
        return logits

    def _project(self, features: Array) -> Tensor:
        weight = self._embed_tokens.weight
        visual: Tensor = self._projector(to_torch(features, weight.device).to(weight.dtype))
        # (T, P, D) -> (N, D)
        return visual.flatten(0, 1)

    def _append_text(self, visual: Tensor, text_ids: NDArray[np.int64]) -> Tensor:
        return torch.cat([visual, self._embed_tokens(to_torch(text_ids, visual.device))])
