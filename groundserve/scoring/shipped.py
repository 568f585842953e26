"""The checkpoints that come with groundserve, and their engine directories in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

import groundserve
from groundserve import extras
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER as SHIPPED_ANSWERER
from groundserve.weights.checkpoint_place import SHIPPED_CHECKPOINT as SHIPPED_CHECKPOINT


def shipped_engine_dir(checkpoint: Path = SHIPPED_CHECKPOINT) -> Path:
    """Return the `cpu` engine directory of a shipped checkpoint, building it at first use.

    It lies under `$XDG_CACHE_HOME/groundserve` (default `~/.cache/groundserve`).

    Raises:
        InvalidRequestError: The cache cannot be written, for want of rights or of room.
        MissingExtraError: Nothing is built there yet, and what builds is not installed.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "groundserve"
    out = base / f"{checkpoint.name}-cpu-{groundserve.__version__}"
    try:
        builder = extras.load("engine_build", "build")
    except MissingExtraError:
        if (out / "manifest.json").is_file():
            return out
        raise
    try:
        base.mkdir(parents=True, exist_ok=True)
        builder.build(checkpoint, out, profile="cpu")
    except OSError as error:
        raise InvalidRequestError(
            f"the engines of {checkpoint.name} cannot be written to the cache {base}: "
            f"{error.strerror or error}; name a folder with room by XDG_CACHE_HOME"
        ) from error
    return out
