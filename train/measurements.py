"""When a run is measured, and `<out>/best`: the checkpoint that was found best so far.

    <out>/best/                            what serving, the next stage and the reference read
    <out>/best/groundserve_validation.json which step it is, and its figures: all the state there is

A measurement that is due and not in the log yet is made up for when the run goes on: whatever ended
it, its log and its best checkpoint are in the end those of a run that nothing interrupted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from train.config import StageConfig
from train.families.base import Initial
from train.files import recover_checkpoint, write_checkpoint
from train.logs import RunLog, read_metrics
from train.parallel import ParallelModel, Processes
from train.state import SavedWeights
from train.stop import StopRequest
from train.validation import FIGURE, FrameAp

logger = logging.getLogger(__name__)

STATE_NAME = "groundserve_validation.json"


class BestCheckpoint:
    """Keeps the best; belongs to a run's first process.

    Raises InvalidRequestError where there is a `best` that does not say where it comes from.
    """

    def __init__(self, out: Path, *, initial: Initial, records: Path) -> None:
        self.path = out / "best"
        self._initial = initial
        self._records = os.path.realpath(records)
        recover_checkpoint(self.path)
        found = read_best(out)
        # Measured on another file it is not comparable.
        if found is not None and os.path.realpath(found["records"]) != self._records:
            logger.warning(
                "%s was measured on %s; the next measurement replaces it",
                self.path,
                found["records"],
            )
            found = None
        self._figure: float | None = None if found is None else found[FIGURE]

    def offer(self, step: int, figures: Mapping[str, float], checkpoint: Path) -> bool:
        """Write a checkpoint of the run as the best if none was as good before."""
        if self._figure is not None and figures[FIGURE] <= self._figure:
            return False
        state = {"step": step, **figures, "records": self._records}
        write_checkpoint(
            self.path,
            self._initial,
            SavedWeights(checkpoint),
            notes={STATE_NAME: json.dumps(state, indent=1) + "\n"},
        )
        self._figure = figures[FIGURE]
        logger.info("wrote %s: step %d, %s %.4f", self.path, step, FIGURE, self._figure)
        return True


def read_best(out: Path) -> dict[str, Any] | None:
    """Return what a run's best says about itself (`step`, `frame_ap`, ...); None: there is none."""
    path = out / "best" / STATE_NAME
    if not path.parent.exists():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        float(state[FIGURE]), str(state["records"]), int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"{path} is missing or damaged; move {path.parent} away"
        ) from error
    return state


OnValidation = Callable[[int, Mapping[str, float], bool], None]
"""Called with the step, the figures, and whether they made its checkpoint the best so far."""


class Measurements:
    """Measures one run; all processes take part."""

    def __init__(
        self,
        config: StageConfig,
        *,
        initial: Initial,
        model: ParallelModel,
        processes: Processes,
        on_validation: OnValidation | None = None,
    ) -> None:
        self._out, self._validation = config.out, config.validation
        self._model, self._processes = model, processes
        self._on_validation = on_validation
        self._best: BestCheckpoint | None = None  # the first process has it
        if config.validation is not None:
            self._measure = FrameAp(config, initial=initial, processes=processes)
            processes.on_first(lambda: self._open_best(initial, config.validation.records))

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether to measure after a step, of which a checkpoint is then needed."""
        # Before the first step too: what training adds to the start shows in the first line.
        due = self._validation
        return due is not None and (is_last or step % due.every_steps == 0)

    def is_missing(self, step: int, *, is_last: bool) -> bool:
        """Whether that of a step is due and not in the log."""
        return self.is_due(step, is_last=is_last) and not self._processes.on_first(
            lambda: any(
                line["step"] == step and "validation" in line for line in read_metrics(self._out)
            )
        )

    def take(self, step: int, *, log: RunLog | None, request: StopRequest) -> bool:
        """Measure after a step; False: a process was asked to stop before the end of it."""
        with self._model.evaluation() as trunk:
            figures = self._measure(trunk, request)
        self._model.take_sync_seconds()  # no part of the next step's
        if figures is None:
            return False
        # The weights before the line: without the line, the measurement is repeated.
        is_best = self._processes.on_first(lambda: self._offer(step, figures))
        if log:
            log.validation(step, figures)
            if self._on_validation:
                self._on_validation(step, figures, is_best)
        return True

    def _open_best(self, initial: Initial, records: Path) -> None:
        self._best = BestCheckpoint(self._out, initial=initial, records=records)

    def _offer(self, step: int, figures: Mapping[str, float]) -> bool:
        if self._best is None or step == 0:  # what the run starts from is a checkpoint already
            return False
        return self._best.offer(step, figures, self._out / f"checkpoint-{step}")
