"""What one optimiser step adds up over its passes, and then over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.examples import Example
from train.models import Losses
from train.parallel import Processes


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """One step over all processes."""

    losses: dict[str, float]
    """`loss` and its parts: means over the passes that read anything; empty if none did."""
    num_read: int
    """Passes that read anything."""
    num_frames: int
    """Encoded."""
    num_tokens: int
    """Visual and text, through the decoder."""
    num_unreadable: int
    """Records, not distinct."""
    stops: bool
    """Whether any process was asked to stop."""


class StepSums:
    """One step in this process."""

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}
        self._num_read = self._num_frames = self._num_tokens = self._num_unreadable = 0

    def add(self, losses: Losses, examples: Sequence[Example], *, num_unreadable: int) -> None:
        """Add one pass; one without examples counts in no mean."""
        for name, value in {"loss": losses.loss.detach(), **losses.parts}.items():
            counted = value.double() * bool(examples)
            self._losses[name] = self._losses.get(name, 0.0) + counted
        self._num_read += bool(examples)
        self._num_frames += sum(len(example.frames) for example in examples)
        self._num_tokens += sum(map(_num_tokens, examples))
        self._num_unreadable += num_unreadable

    def total(self, processes: Processes, *, stops: bool) -> StepTotals:
        """Add up over processes; all must call it.

        Args:
            processes: Who takes part.
            stops: Whether this one was asked to stop. It travels with the sums, so that all
                processes agree after which step they do.
        """
        counts = (self._num_read, self._num_frames, self._num_tokens, self._num_unreadable, stops)
        values = torch.cat(
            [
                torch.stack(list(self._losses.values())),
                torch.tensor(counts, dtype=torch.float64, device=processes.device),
            ]
        )
        *sums, num_read, num_frames, num_tokens, num_unreadable, num_stops = processes.total(
            values
        ).tolist()
        losses = dict(zip(self._losses, sums, strict=True))
        return StepTotals(
            losses={name: total / num_read for name, total in losses.items()} if num_read else {},
            num_read=int(num_read),
            num_frames=int(num_frames),
            num_tokens=int(num_tokens),
            num_unreadable=int(num_unreadable),
            stops=num_stops > 0,
        )


def _num_tokens(example: Example) -> int:
    num_visual = len(example.frames) * example.grid**2
    return sum(num_visual + len(text.ids) - 1 for text in example.texts)
