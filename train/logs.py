"""What a run writes about itself: `metrics.jsonl` and TensorBoard's files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundserve import extras
from groundserve.runtime.closing import Closing

METRICS_NAME = "metrics.jsonl"
_TENSORBOARD_NAME = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One optimiser step, over all processes."""

    step: int
    num_steps: int
    epoch: float
    loss: float | None
    """Mean over the forward passes that had something to read; None if none had."""
    parts: dict[str, float]
    """Its terms before weighting."""
    learning_rates: dict[str, float]
    grad_norm: float
    """Before clipping."""
    num_frames: int
    num_tokens: int
    """Visual and text, through the decoder in this step."""
    data_seconds: tuple[float, ...]
    """What each process waited for its samples, by rank."""
    compute_seconds: float
    """The first process's step without its samples, checkpoints and validation."""
    num_unreadable: int
    """Records found unreadable so far, each once; those that share a file that cannot be read, and
    are read together, count as one."""


class RunLog(Closing):
    """Writes the log of a run; belongs to its first process.

    What the log says about steps behind `step`, which a run that resumes does again, is dropped.
    """

    def __init__(self, out: Path, *, step: int) -> None:
        # First: where TensorBoard is missing, nothing of the run has been touched.
        tensorboard = extras.load("torch.utils.tensorboard", "train")
        # TensorBoard hides what an earlier file of events says from this step on.
        self._writer = tensorboard.SummaryWriter(str(out / _TENSORBOARD_NAME), purge_step=step + 1)
        path = out / METRICS_NAME
        _drop_later_lines(path, step=step)
        self._file = path.open("a", encoding="utf-8")

    def step(self, report: StepReport) -> None:
        """Write one line."""
        # `num_steps` is the same in every line.
        self._write({name: v for name, v in asdict(report).items() if name != "num_steps"})
        scalars = {
            "loss": report.loss,
            **report.parts,
            **{f"learning_rate/{name}": rate for name, rate in report.learning_rates.items()},
            "grad_norm": report.grad_norm,
            "seconds/data": max(report.data_seconds),  # one number a plot: the slowest rank
            "seconds/compute": report.compute_seconds,
            "unreadable": report.num_unreadable,
        }
        self._add_scalars("train", scalars, report.step)

    def validation(self, step: int, results: Mapping[str, float]) -> None:
        """Write one line."""
        self._write({"step": step, "validation": dict(results)})
        self._add_scalars("validation", results, step)

    def flush(self) -> None:
        """Bring the lines to the disk, before a checkpoint that stands for them."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._writer.close()

    def _write(self, line: dict[str, Any]) -> None:
        # A line is with the kernel at once: a killed process loses none, a power failure what
        # `flush` has not covered.
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _add_scalars(self, kind: str, values: Mapping[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{kind}/{name}", value, step)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics, skipping what is none.

    A process that was killed may leave a line unfinished, a machine that went down other bytes.
    """
    path = out / METRICS_NAME
    if not path.is_file():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _drop_later_lines(path: Path, *, step: int) -> None:
    # What was torn off is no line, so it goes here, and the next line does not run on behind it.
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
    partial.replace(path)
