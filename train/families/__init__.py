"""The families that can be trained: what differs from one to the next lies in a folder here.

A family's module is imported when it is asked for.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from groundserve import extras
from train.families.base import TextTrainingFamily, TrainingFamily

_MODULES = {
    "videoitg": "train.families.videoitg",
}
"""Name -> module with the family as `FAMILY`. Of several that recognise a config, the first."""
_MODULES_BY_STAGE = {
    "vtimellm": "train.families.vtimellm",
    "grounded-videollm": "train.families.grounded_videollm",
    "vtgllm": "train.families.vtgllm",
}
"""The same of families that answer in text, by what the names of their stages begin with: all of
them may start from the same decoder."""


def find_family(init: Path | None, stage: str | None = None) -> TrainingFamily:
    """Return the family that a run trains, by its stage or the config.json of what it starts from.

    The first where none recognises that: it says what is missing or odd.
    """
    if stage is not None and (family := stage_family(stage)):
        return family
    raw_config = None
    if init is not None:
        with suppress(OSError, ValueError, RecursionError):
            raw_config = json.loads((init / "config.json").read_text("utf-8"))
    families: list[TrainingFamily] = [
        extras.load(module, "train").FAMILY for module in _MODULES.values()
    ]
    known = raw_config if isinstance(raw_config, dict) else {}
    return next((family for family in families if family.recognises(known)), families[0])


def stage_family(stage: str) -> TextTrainingFamily | None:
    """Return the family that alone has a stage; None where what the run starts from says it."""
    for name, module in _MODULES_BY_STAGE.items():
        if stage.startswith(f"{name}-"):
            family: TextTrainingFamily = extras.load(module, "train").FAMILY
            return family
    return None
