"""The families that can be trained: what differs from one to the next lies in a folder here.

A family's module is imported when it is asked for.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from groundserve.errors import MissingExtraError
from train.families.base import TrainingFamily

_MODULES = {
    "videoitg": "train.families.videoitg",
}
"""Name -> module with the family as `FAMILY`. Of several that recognise a config, the first."""


def find_family(init: Path | None) -> TrainingFamily:
    """Return the family that a run trains, by the config.json of what it starts from.

    The first where none recognises that: it says what is missing or odd.

    Args:
        init: Folder that the run starts from; None: not known yet.

    Raises:
        MissingExtraError: A package that the family is trained with is not installed.
    """
    try:
        raw_config = None if init is None else json.loads((init / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        raw_config = None
    families = (_open(name) for name in _MODULES)
    first = next(families)
    if not isinstance(raw_config, dict):
        return first
    found = (family for family in (first, *families) if family.recognises(raw_config))
    return next(found, first)


def _open(name: str) -> TrainingFamily:
    try:
        family: TrainingFamily = import_module(_MODULES[name]).FAMILY
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch") from error
    return family
