"""When a run is measured, and what becomes of the figures.

A measurement that is due and not in the log yet is made up for when the run goes on: whatever ended
it, its log and its best checkpoint are in the end those of a run that nothing interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from groundserve.errors import InvalidRequestError
from train.best import BestCheckpoint
from train.config import StageConfig
from train.families.base import Initial, TrainedModel
from train.logs import RunLog, read_metrics
from train.parallel import ParallelModel, Processes
from train.stop import StopRequest
from train.validation import FrameAp

Validate = Callable[[TrainedModel, Initial], dict[str, float]]
"""Given the model and what the run started from, whose `encode` it needs."""
OnValidation = Callable[[int, Mapping[str, float], bool], None]
"""Called with the step, the figures, and whether they made its checkpoint the best so far."""


class Measurements:
    """Those of one run: the config's, or a caller's own.

    Args:
        config: The run.
        initial: What it starts from.
        model: Lent to whatever measures.
        processes: All of them take part.
        validate: A caller's own measurement; then there is no best checkpoint.
        every_steps: Steps between two of those; None: after the last step only.
        on_validation: Called in the first process.

    Raises:
        InvalidRequestError: The config and the caller both want to measure, or the records of the
            config cannot be used, or what lies at `<out>/best` is none of the run's.
    """

    def __init__(
        self,
        config: StageConfig,
        *,
        initial: Initial,
        model: ParallelModel,
        processes: Processes,
        validate: Validate | None = None,
        every_steps: int | None = None,
        on_validation: OnValidation | None = None,
    ) -> None:
        if validate is not None and config.validation is not None:
            raise InvalidRequestError(
                "a run is measured by its config's validation or by the caller's validate, not both"
            )
        self._out = config.out
        self._model, self._processes = model, processes
        self._on_validation = on_validation
        self._measure: Callable[[TrainedModel, StopRequest], dict[str, float] | None] | None = None
        self._every_steps, self._first_step = every_steps, 1
        self._best: BestCheckpoint | None = None  # the first process has it
        if validate is not None:
            self._measure = lambda trunk, _: validate(trunk, initial)
        if config.validation is not None:
            records = config.validation.records
            frame_ap = FrameAp(config, initial=initial, processes=processes)
            self._measure = frame_ap
            # Before the first step too: what training adds to the start shows in the first line.
            self._every_steps, self._first_step = config.validation.every_steps, 0
            processes.on_first(lambda: self._open_best(initial, records))

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether to measure after a step, of which a checkpoint is then needed."""
        if self._measure is None or step < self._first_step:
            return False
        return is_last or (self._every_steps is not None and step % self._every_steps == 0)

    def is_made(self, step: int) -> bool:
        """Whether the log has that of a step."""
        return self._processes.on_first(
            lambda: any(
                line["step"] == step and "validation" in line for line in read_metrics(self._out)
            )
        )

    def take(self, step: int, *, log: RunLog | None, request: StopRequest) -> bool:
        """Measure after a step; False: a process was asked to stop before the end of it."""
        assert self._measure is not None
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
