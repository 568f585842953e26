"""The checkpoint that comes with groundserve, and its engine directory in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

import groundserve
from groundserve import extras
from groundserve.errors import MissingExtraError
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT as SHIPPED_CHECKPOINT


def shipped_engine_dir() -> Path:
    """Return the `cpu` engine directory of the shipped checkpoint, building it at first use.

    It lies under `$XDG_CACHE_HOME/groundserve` (default `~/.cache/groundserve`).
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "groundserve"
    base.mkdir(parents=True, exist_ok=True)
    out = base / f"{SHIPPED_CHECKPOINT.name}-cpu-{groundserve.__version__}"
    try:
        builder = extras.load("engine_build", "build")
    except MissingExtraError:
        if (out / "manifest.json").is_file():
            return out
        raise
    builder.build(SHIPPED_CHECKPOINT, out, profile="cpu")
    return out
