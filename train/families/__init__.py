"""The families that can be trained: what differs from one to the next lies in a folder here.

A family's module is imported when it is asked for.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from groundserve import extras
from train.families.base import TrainingFamily

_MODULES = {
    "videoitg": "train.families.videoitg",
}
"""Name -> module with the family as `FAMILY`. Of several that recognise a config, the first."""


def find_family(init: Path | None) -> TrainingFamily:
    """Return the family that a run trains, by the config.json of what it starts from.

    The first where none recognises that: it says what is missing or odd.
    """
    raw_config = None
    if init is not None:
        with suppress(OSError, ValueError, RecursionError):
            raw_config = json.loads((init / "config.json").read_text("utf-8"))
    families: list[TrainingFamily] = [
        extras.load(module, "train").FAMILY for module in _MODULES.values()
    ]
    known = raw_config if isinstance(raw_config, dict) else {}
    return next((family for family in families if family.recognises(known)), families[0])
