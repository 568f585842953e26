"""The front: what a frame's place and second add, and how all frames become the decoder's block.

Shape letters: T frames, P vectors of one, N rows of the block, D width of the vectors, H of the
decoder.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from groundserve.families.modules import FrontModule
from groundserve.families.vtgllm.config import Sampler

_CROSS_HEADS = 8


class Front(FrontModule):
    """Embeddings of place and second, a sampler, a linear layer.

    All but the last stays in float32 whatever the weights' dtype: a slot's logits are sums of D
    products that nothing scales down, and 16 bits would round them by more than one.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/vtgllm.py::encode_videoQformer_visual`.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        num_time_rows: int | None,
        sampler: Sampler,
        num_slots: int,
        feature_width: int,
        hidden_size: int,
    ) -> None:
        """Make it.

        Args:
            num_frames: Rows of the embedding of places, the most T.
            num_time_rows: Rows of the embedding of seconds; None where there is none.
            sampler: How vectors become the block's.
            num_slots: How many they become, but by the sampler "none".
            feature_width: D.
            hidden_size: H.
        """
        super().__init__()
        self.places = nn.Embedding(num_frames, feature_width)
        self.seconds = None if num_time_rows is None else nn.Embedding(num_time_rows, feature_width)
        self.sampler: nn.Module = nn.Identity()
        if sampler == "slot":
            self.sampler = SlotSampler(feature_width, num_slots)
        elif sampler == "cross":
            self.sampler = CrossSampler(feature_width, num_slots)
        self.projection = nn.Linear(feature_width, hidden_size)

    def forward(self, features: Tensor, seconds: Tensor | None = None) -> Tensor:
        """Make the block.

        Args:
            features: (T, P, D).
            seconds: (T,), each a row of the embedding of seconds, where there is one; of a dtype
                that holds them.

        Returns:
            (N, H) in the dtype of the linear layer.
        """
        places = torch.arange(features.shape[0], device=features.device)
        # (T, 1, D)
        added = self.places(places).unsqueeze(1)
        if self.seconds is not None:
            assert seconds is not None, "a front with an embedding of seconds is given them"
            # By place: an exporter does not know that there are as many as frames.
            added = added + self.seconds(seconds.long()[places]).unsqueeze(1)
        vectors = self.sampler((added + features.to(torch.float32)).flatten(0, 1))
        return cast(Tensor, self.projection(vectors.to(self.projection.weight.dtype)))


class SlotSampler(nn.Module):
    """Each slot is a mean of all vectors, weighted by a softmax over them."""

    def __init__(self, width: int, num_slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.empty(width, num_slots))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (slots, D) of (T * P, D)."""
        weights = torch.softmax(vectors @ self.slots, dim=0)
        return (vectors.T @ weights).T


class CrossSampler(nn.Module):
    """Learned queries that read all vectors in one attention."""

    def __init__(self, width: int, num_queries: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, num_queries, width))
        self.attention = nn.MultiheadAttention(width, _CROSS_HEADS, batch_first=True)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (queries, D) of (T * P, D)."""
        read = vectors.unsqueeze(0)
        # Without the weights of each, which nobody reads and the fused kernels do not give.
        attended, _ = self.attention(self.query, read, read, need_weights=False)
        return cast(Tensor, attended[0])
