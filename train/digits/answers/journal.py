"""What a run of a small recipe says of itself: losses and times, in files beside the checkpoint."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from groundserve.errors import InvalidRequestError

logger = logging.getLogger(__name__)

_REPORT_EVERY_STEPS = 25


RecipeT = TypeVar("RecipeT")

NOTE = "trained on moving handwritten digits; of other videos its answers say nothing"


def run_command(
    description: str, recipe: Callable[..., RecipeT], train: Callable[[RecipeT, Path], Path]
) -> None:
    """Train with the seed, and into the folder, of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("huggingface_hub").setLevel(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        print(train(recipe(seed=arguments.seed), arguments.out))  # noqa: T201 - a command
    except InvalidRequestError as error:
        parser.error(str(error))


def take_new(out: Path) -> Path:
    """Make the folder of a run, which goes from its beginning to its end, and return it."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise InvalidRequestError(f"out must be a new folder or an empty one, got {out}")
    return out


class Journal:
    """What stands beside a checkpoint: a note, and in `training` settings, losses and times."""

    def __init__(self, package: Path) -> None:
        self._package, self._directory = package, package / "training"

    def close(self, recipe: Any) -> None:
        """Write the note, and the settings of a dataclass."""
        (self._package / "groundserve_note.txt").write_text(f"{NOTE}\n", "utf-8")
        settings = json.dumps(asdict(recipe), indent=2)
        (self._directory / "config.json").write_text(f"{settings}\n", "utf-8")

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
