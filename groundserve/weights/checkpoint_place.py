"""Where a checkpoint lies by the name that a user gives it; looked up without reading weights."""

from __future__ import annotations

import os
import re
from pathlib import Path

from groundserve.errors import InvalidRequestError

SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "digits"
"""The checkpoint that comes with groundserve; its folder's name will do to name it."""

SHIPPED_ANSWERER = SHIPPED_CHECKPOINT.with_name("digits-text")
"""The one that answers in text."""

_SHIPPED = {place.name: place for place in (SHIPPED_CHECKPOINT, SHIPPED_ANSWERER)}

_NOTE_NAME = "groundserve_note.txt"

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""`organisation/name`; a path such as ./name is none."""


def read_note(directory: Path) -> str | None:
    """Return what a checkpoint's own file says of it beside every answer; None without one."""
    path = directory / _NOTE_NAME
    # One that is not UTF-8 is no reason to refuse the model.
    return path.read_text("utf-8", "replace").strip() if path.is_file() else None


def local_place(name: str | Path) -> Path:
    """Return the path that a checkpoint's name means.

    A local one comes first, so one called `digits` is never mistaken for the shipped one.
    """
    # Not Path's, which raises RuntimeError where there is no such user.
    path = Path(os.path.expanduser(name))
    return path if path.exists() else _SHIPPED.get(str(name), path)


def find_checkpoint(name: str | Path) -> Path | None:
    """Return the directory of a checkpoint or a vision tower; None where it is a hub id."""
    directory = local_place(name)
    if directory.is_dir():
        if not (directory / "config.json").exists():
            hides = f"; it hides the {name} of groundserve: rename it" if name in _SHIPPED else ""
            raise InvalidRequestError(
                f"checkpoint {name}: config.json is missing; give the "
                f"directory that holds it and the .safetensors files{hides}"
            )
        return directory.resolve()
    if directory.exists():
        raise InvalidRequestError(f"checkpoint {name}: must be a directory or a hub id, got a file")
    if HUB_ID.fullmatch(str(name)):
        return None
    raise InvalidRequestError(
        f"checkpoint {name}: no such directory, and not a hub id; those that come with "
        f"groundserve are called {' and '.join(_SHIPPED)}"
    )
