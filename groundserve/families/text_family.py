"""What families of head "text" do alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import MissingExtraError
from groundserve.families.base import Head, TextCheckpoint
from groundserve.families.plans import PlanInput, SeenVideo
from groundserve.families.transformers_version import check_transformers


class TextFamilyBase:
    """Base of a `TextFamily`: frames are all that it encodes, features all that the front takes."""

    name: str
    head: Head = "text"

    def plan_inputs(self, spec: Any) -> tuple[PlanInput, ...]:
        """Return none."""
        return ()

    def front_inputs(self, spec: Any) -> tuple[PlanInput, ...]:
        """Return none."""
        return ()

    def front_arrays(self, seen: SeenVideo, spec: Any) -> tuple[NDArray[np.float32], ...]:
        """Return none."""
        return ()

    def open_checkpoint(
        self, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]] | None = None
    ) -> TextCheckpoint:
        """See `Checkpoint.open` in the family's folder."""
        check_transformers(self.name)
        folder = type(self).__module__.rpartition(".")[0]
        try:
            checkpoint = import_module(f"{folder}.checkpoint").Checkpoint
        except ImportError as error:
            raise MissingExtraError("build", error.name or "torch") from error
        opened: TextCheckpoint = checkpoint.open(path, parts=parts or {})
        return opened
