"""The grounding stage of a GPU engine: a PyTorch front, the engine's decoder, a mean a frame.

Shape letters: T frames, each a unit of P tokens, N = T * P, L text tokens, S = N + L, D decoder
width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from python_backend.arrays import Array, to_torch
from python_backend.ground.base import TokenScorer

if TYPE_CHECKING:
    from groundserve.families.modules import GroundingFront


class EngineGrounder:
    """Projects features and looks up text in PyTorch, scores tokens in an engine.

    The embedding table stays out of the engine: a request reads some hundred of its rows.
    """

    def __init__(self, front: GroundingFront, scorer: TokenScorer) -> None:
        self._projector, self._embed_tokens = front
        self._scorer = scorer

    def ground(self, features: Array, text_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Implement `Grounder.ground`."""
        num_frames, tokens_per_frame, _ = features.shape
        weight = self._embed_tokens.weight
        with torch.inference_mode():
            visual = self._projector(to_torch(features, weight.device).to(weight.dtype))
            visual = visual.flatten(0, 1)  # (T, P, D) -> (N, D)
            text = self._embed_tokens(to_torch(text_ids, weight.device))
            scores = self._scorer.score(torch.cat([visual, text]))
            # The visual tokens come first, the text's scores are not used. (N,) -> (T, P) -> (T,)
            visual_scores = scores[: num_frames * tokens_per_frame]
            frame_logits = visual_scores.reshape(num_frames, tokens_per_frame).mean(dim=1)
            logits: NDArray[np.float32] = frame_logits.cpu().numpy()
        return logits
