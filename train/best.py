"""`<out>/best`: the checkpoint of a run that validation found best so far.

    <out>/best/                            what serving, the next stage and the reference read
    <out>/best/groundserve_validation.json which step it is, and its figures

That file is all the state there is: it appears with the weights it speaks of, and a run that
resumes reads it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from train.families.base import Initial
from train.files import recover_checkpoint, write_checkpoint
from train.state import SavedWeights
from train.validation import FIGURE

logger = logging.getLogger(__name__)

STATE_NAME = "groundserve_validation.json"


class BestCheckpoint:
    """Keeps the best; belongs to a run's first process.

    Raises:
        InvalidRequestError: There is a `best` that says nothing of where it comes from.
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
    """Return what a run's best says about itself (`step`, `frame_ap`, ...); None: there is none.

    Raises:
        InvalidRequestError: There is one, and its file is missing or damaged.
    """
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
