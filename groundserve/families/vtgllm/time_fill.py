"""What stands in the embedding of seconds where training never saw that second.

Shape letters: N rows of the table, one a second, D their width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from groundserve.families.base import FindingRow
from groundserve.families.vtgllm.config import TimeFill


def fill_seconds(table: Tensor, fill: TimeFill) -> Tensor:
    """Return the table with its untrained rows filled; untrained is a row that is 0 throughout.

    Args:
        table: float32 (N, D).
        fill: "none" leaves them. "reference" gives row i between the trained rows l and r the sum
            of row l times (i - l) / (r - l) and row r times (r - i) / (r - l): the weights are the
            wrong way round, and behind the last trained row r is -1, in the weights as well as in
            the table, whose last row is then the first to be filled. "corrected" interpolates,
            and repeats the first and the last trained row at the ends.

    Returns:
        float32 (N, D), of its own.

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
