"""What a run of a small recipe says of itself: losses and times, in files beside the checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

logger = logging.getLogger(__name__)

_REPORT_EVERY_STEPS = 25


class Journal:
    """Files `log.jsonl` and `timing.jsonl` in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def report(self, name: str) -> Callable[[int, float, Tensor], None]:
        """Return what takes each step, its loss and the share that it told right."""
        seen: list[tuple[float, float]] = []

        def report(step: int, loss: float, right: Tensor) -> None:
            seen.append((loss, right.item()))
            if step % _REPORT_EVERY_STEPS == 0:
                mean_loss, mean_right = np.mean(seen, axis=0)
                seen.clear()
                line = {
                    "run": name,
                    "step": step,
                    "loss": round(mean_loss, 4),
                    "right": round(mean_right, 4),
                }
                logger.info("%s", line)
                self._append("log.jsonl", line)

        return report

    def _append(self, name: str, line: object) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long a part takes."""
        started, worked = time.perf_counter(), time.process_time()
        yield
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        line = {"part": name, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1)}
        logger.info("%s", line)
        self._append("timing.jsonl", line)
