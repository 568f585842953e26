"""When a run is measured, and what becomes of the figures.

A measurement that is due and not in the log yet is made up for when the run goes on: whatever ended
it, its log and its best checkpoint are in the end those of a run that nothing interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from train.best import BestCheckpoint
from train.config import StageConfig
from train.families.base import Initial
from train.logs import RunLog, read_metrics
from train.parallel import ParallelModel, Processes
from train.stop import StopRequest
from train.validation import FrameAp

OnValidation = Callable[[int, Mapping[str, float], bool], None]
"""Called with the step, the figures, and whether they made its checkpoint the best so far."""


class Measurements:
    """Those of one run; all processes take part.

    Raises:
        InvalidRequestError: The records cannot be used, or what lies at `<out>/best` is none of
            the run's.
    """

    def __init__(
        self,
        config: StageConfig,
        *,
        initial: Initial,
        model: ParallelModel,
        processes: Processes,
        on_validation: OnValidation | None = None,
    ) -> None:
        self._out = config.out
        self._model, self._processes = model, processes
        self._on_validation = on_validation
        self._every_steps: int | None = None
        if config.validation is not None:
            self._every_steps = config.validation.every_steps
            self._measure = FrameAp(config, initial=initial, processes=processes)
            self._best: BestCheckpoint | None = None  # the first process has it
            processes.on_first(lambda: self._open_best(config, initial))

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether to measure after a step, of which a checkpoint is then needed."""
        # Before the first step too: what training adds to the start shows in the first line.
        return self._every_steps is not None and (is_last or step % self._every_steps == 0)

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

    def _open_best(self, config: StageConfig, initial: Initial) -> None:
        assert config.validation is not None
        self._best = BestCheckpoint(config.out, initial=initial, records=config.validation.records)

    def _offer(self, step: int, figures: Mapping[str, float]) -> bool:
        if self._best is None or step == 0:  # what the run starts from is a checkpoint already
            return False
        return self._best.offer(step, figures, self._out / f"checkpoint-{step}")
