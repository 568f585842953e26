"""What one optimiser step adds up over its passes, and then over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.examples import Example
from train.families.base import Losses
from train.parallel import Processes


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """One step over all processes."""

    losses: dict[str, float]
    """`loss` and its parts: means over the passes that read anything; empty if none did."""
    num_read: int
    num_frames: int
    num_tokens: int
    num_unreadable: int
    data_seconds: tuple[float, ...]
    sync_seconds: tuple[float, ...]
    stops: bool
    """Whether any process was asked to stop: all agree after which step they do."""


class StepSums:
    """One step in this process."""

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}
        # Passes that read anything, frames, tokens, unreadable records.
        self._counts = torch.zeros(4, dtype=torch.float64)  # exact up to 2**53

    def add(self, losses: Losses, examples: Sequence[Example], *, num_unreadable: int) -> None:
        """Add one pass; one without examples counts in no mean."""
        for name, value in {"loss": losses.loss.detach(), **losses.parts}.items():
            # Multiplied and not skipped: a process that read nothing must have the same names,
            # since the vectors are added place by place. No .item(), which would wait for the GPU
            # in every pass.
            counted = value.double() * bool(examples)
            self._losses[name] = self._losses.get(name, 0.0) + counted
        num_frames = sum(len(example.frames) for example in examples)
        num_tokens = sum(example.num_tokens for example in examples)
        self._counts += torch.tensor([bool(examples), num_frames, num_tokens, num_unreadable])

    def total(
        self, processes: Processes, *, data_seconds: float, sync_seconds: float, stops: bool
    ) -> StepTotals:
        """Add up over processes, and collect each one's times, in one collective."""
        # Zero but for the own column: the sum over processes collects all.
        seconds = torch.zeros(2, processes.world_size, dtype=torch.float64)
        seconds[:, processes.rank] = torch.tensor([data_seconds, sync_seconds])
        own = torch.cat([self._counts, torch.tensor([float(stops)]), seconds.flatten()])
        values = processes.total(
            torch.cat([torch.stack(list(self._losses.values())), own.to(processes.device)])
        ).tolist()
        # The losses come first; zip ends with their names.
        losses = dict(zip(self._losses, values, strict=False))
        num_read, num_frames, num_tokens, num_unreadable, num_stops, *waited = values[len(losses) :]
        waited = [round(value, 4) for value in waited]
        return StepTotals(
            losses={name: total / num_read for name, total in losses.items()} if num_read else {},
            num_read=int(num_read),
            num_frames=int(num_frames),
            num_tokens=int(num_tokens),
            num_unreadable=int(num_unreadable),
            data_seconds=tuple(waited[: processes.world_size]),
            sync_seconds=tuple(waited[processes.world_size :]),
            stops=num_stops > 0,
        )
