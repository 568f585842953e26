"""The front: what a frame's place and second add, and how all frames become the decoder's block.

Shape letters: T frames, P vectors of one, N rows of the block, D width of the vectors, H of the
decoder, R rows of the table of seconds.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from groundserve.families.base import FindingRow
from groundserve.families.modules import FrontModule
from groundserve.families.vtgllm.config import Sampler, TimeFill

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
        """Make it for at most `num_frames`; without `num_time_rows` no second is embedded."""
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
        """Make the block: (T, P, D), and (T,) rows of the table of seconds, if any -> (N, H)."""
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


def fill_seconds(table: Tensor, fill: TimeFill) -> Tensor:
    """Return float32 (N, D) with its untrained rows, which are 0 throughout, filled in a copy.

    "none" leaves them. "reference" gives row i between the trained rows l and r the sum of row l
    times (i - l) / (r - l) and row r times (r - i) / (r - l): the weights are the wrong way round,
    and behind the last trained row r is -1, in the weights as well as in the table, whose last row
    is then the first to be filled. "corrected" interpolates, and repeats the first and the last
    trained row at the ends.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/vtgllm.py::from_config`.
    """
    filled = table.clone()
    trained = table.ne(0).any(dim=1).nonzero().flatten().tolist()
    if fill == "reference":
        _fill_as_reference(filled, trained)
    elif fill == "corrected" and trained:
        _interpolate(filled, trained)
    return filled


def seconds_finding(table: Tensor, fill: TimeFill) -> FindingRow:
    """Say which seconds the model knows, and what stands for the others."""
    trained = table.ne(0).any(dim=1).nonzero().flatten().tolist()
    known = f"{len(trained)} of {len(table)} trained"
    if trained:
        known += f", the last is {trained[-1]} s"
    if len(trained) == len(table):
        return "seconds", "ok", known
    others = {
        "none": "the others add nothing",
        "reference": "the others are filled as the reference does, those behind it with values "
        "that grow out of any range; time_fill=corrected interpolates",
        "corrected": "the others are interpolated, which is not what the reference does",
    }
    return "seconds", "warn" if fill == "reference" else "ok", f"{known}; {others[fill]}"


def _fill_as_reference(table: Tensor, trained: list[int]) -> None:
    num_rows = len(table)
    for left, right in zip([0, *trained], [*trained, -1], strict=True):
        # Up to the next trained row or, behind the last one, to the end.
        stop = num_rows if right < 0 else right
        rows = torch.arange(left + 1, max(stop, left + 1)).flip(0)
        if right < 0:
            # The last row is one of those that it is made of: filled alone, before the others.
            _mix(table, rows[:1], left, right)
            rows = rows[1:]
        _mix(table, rows, left, right)
    # The row that is taken for trained below the first: it was 0 till here.
    if trained and trained[0] > 0:
        _mix(table, torch.tensor([0]), 0, trained[0])


def _mix(table: Tensor, rows: Tensor, left: int, right: int) -> None:
    from_left = (rows - left).to(table.dtype).unsqueeze(1)
    to_right = (right - rows).to(table.dtype).unsqueeze(1)
    span = right - left
    # In the order of the reference: a product rounded, then its quotient.
    table[rows] = table[left] * from_left / span + table[right] * to_right / span


def _interpolate(table: Tensor, trained: list[int]) -> None:
    seconds = torch.arange(len(table))
    known = torch.tensor(trained)
    # Of each second the place of the trained one at or below it, and of the one above.
    below = (torch.searchsorted(known, seconds, right=True) - 1).clamp(min=0)
    above = (below + 1).clamp(max=len(known) - 1)
    left, right = known[below], known[above]
    share = (seconds - left).clamp(min=0) / (right - left).clamp(min=1)
    share = share.clamp(max=1).to(table.dtype).unsqueeze(1)
    table.copy_(torch.lerp(table[left], table[right], share))
