"""The model families: what differs between one and the next lies in a folder here.

A family's module is imported when it is asked for.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from groundserve.checkpoint_place import find_checkpoint
from groundserve.errors import GroundserveError, UnsupportedError
from groundserve.families.base import Family, FamilyCheckpoint, FramesFamily
from groundserve.strict_json import shown

_MODULES = {
    "videoitg": "groundserve.families.videoitg",
    "vtimellm": "groundserve.families.vtimellm",
    "grounded_videollm": "groundserve.families.grounded_videollm",
    "vtgllm": "groundserve.families.vtgllm",
}
"""Name -> module with the family as `FAMILY`. Of several that recognise a checkpoint, the first."""


def family_names() -> tuple[str, ...]:
    """Return the names of all families."""
    return tuple(_MODULES)


def served_family_names() -> tuple[str, ...]:
    """Return the names of those that can be served: of head "frames"."""
    return tuple(name for name in _MODULES if get_family(name).head == "frames")


def get_family(name: str) -> Family[Any, Any]:
    """Return the family of that name.

    Raises:
        UnsupportedError: There is no such family.
        GroundserveError: Its line in the registry is wrong, or its module does not import.
    """
    if name not in _MODULES:
        raise UnsupportedError(f"family must be one of {', '.join(_MODULES)}, got {name!r}")
    place = _MODULES[name]
    try:
        family: Family[Any, Any] | None = getattr(import_module(place), "FAMILY", None)
    except ImportError as error:
        if not f"{place}.".startswith(f"{error.name}."):  # something that the family imports
            raise GroundserveError(f"the family {name} cannot be imported: {error}") from error
        raise GroundserveError(
            f"the registry's line of the family {name} names {place}, which is no module; correct "
            "it in groundserve/families/__init__.py"
        ) from error
    if family is None or family.name != name:
        found = "has no FAMILY" if family is None else f"has a FAMILY whose name is {family.name!r}"
        raise GroundserveError(
            f"the registry's line of the family {name} names {place}, which {found}; the name in "
            "groundserve/families/__init__.py and that of FAMILY must be the same"
        )
    return family


def get_frames_family(name: str) -> FramesFamily[Any, Any]:
    """Return the family of that name, of head "frames".

    Raises:
        UnsupportedError: There is no such family, or it answers in text.
    """
    family = get_family(name)
    if family.head != "frames":
        raise UnsupportedError(f"the family {name} answers in text, which is not served yet")
    frames_family: FramesFamily[Any, Any] = family  # type: ignore[assignment]  # by its head
    return frames_family


def open_checkpoint(
    place: str | Path, *, vision_tower: str | Path | None = None
) -> tuple[FramesFamily[Any, Any], FamilyCheckpoint]:
    """Open a checkpoint of any family that can be served; imports PyTorch.

    Args:
        place: Directory in the layout of the family's reference, or a hub id.
        vision_tower: Directory or hub id of the vision tower, where not found beside it.

    Raises:
        InvalidRequestError: No such directory, or files are missing or unreadable.
        UnsupportedError: No family computes this model.
        MissingExtraError: PyTorch or transformers is not installed.
    """
    family = get_frames_family(recognise_family(place))
    return family, family.open_checkpoint(place, vision_tower=vision_tower)


def recognise_family(place: str | Path) -> str:
    """Return the name of a checkpoint's family: the first where its config.json cannot be read.

    That one says what is wrong when it opens the checkpoint.

    Args:
        place: As `open_checkpoint` takes it.

    Raises:
        UnsupportedError: It is of none of the families that are served.
    """
    first = next(iter(_MODULES))
    try:
        directory = find_checkpoint(place)
        if directory is None:  # on the hub
            return first
        raw_config = json.loads((directory / "config.json").read_text("utf-8"))
    # Which the family itself has words for.
    except (OSError, ValueError, RecursionError):
        return first
    if not isinstance(raw_config, dict):
        return first
    served = served_family_names()
    for name in served:
        if get_frames_family(name).recognises(raw_config):
            return name
    raise UnsupportedError(
        f"checkpoint {place}: config.json with model_type {shown(raw_config.get('model_type'))} is "
        f"of none of the families that are served ({', '.join(served)})"
    )
