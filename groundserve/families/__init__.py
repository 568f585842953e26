"""The model families: what differs between one and the next lies in a folder here.

A family's module is imported when it is asked for.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from groundserve.arguments import check_head
from groundserve.errors import GroundserveError, InvalidRequestError, UnsupportedError
from groundserve.families.base import (
    Family,
    FamilyCheckpoint,
    FramesFamily,
    TextCheckpoint,
    TextFamily,
)
from groundserve.families.parts import GivenParts
from groundserve.options import AnswerOptions
from groundserve.strict_json import shown
from groundserve.weights.checkpoint_place import find_checkpoint, local_place

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


def get_family(name: str) -> Family[Any, Any]:
    """Return the family of that name."""
    if name not in _MODULES:
        raise UnsupportedError(f"family must be one of {', '.join(_MODULES)}, got {name!r}")
    try:
        family: Family[Any, Any] = import_module(_MODULES[name]).FAMILY
    except (ImportError, AttributeError) as error:
        raise GroundserveError(f"the family {name} cannot be imported: {error}") from error
    assert family.name == name, "the registry has a family by its name"
    return family


def get_frames_family(name: str) -> FramesFamily[Any, Any]:
    """Return the family of that name, of head "frames"."""
    family = get_family(name)
    check_head(name, family.head, called="frames")
    frames_family: FramesFamily[Any, Any] = family  # type: ignore[assignment]  # by its head
    return frames_family


def get_text_family(name: str) -> TextFamily[Any]:
    """Return the family of that name, of head "text"."""
    family = get_family(name)
    check_head(name, family.head, called="text")
    text_family: TextFamily[Any] = family  # type: ignore[assignment]  # by its head
    return text_family


def takes_query(options: AnswerOptions, family: TextFamily[Any] | None) -> bool:
    """Tell whether a question goes with these options, in every family where none is named."""
    texts = [name for name in family_names() if get_family(name).head == "text"]
    families = [family] if family else [get_text_family(name) for name in texts]
    return options.raw or not any(options.task in one.tasks_without_query for one in families)


def check_asked(
    query: str, options: AnswerOptions, family: TextFamily[Any], *, name: str = "query"
) -> None:
    """Refuse what a family has no prompt for, which needs no video to tell.

    A task that the family does not know; no question, or one where the task takes none. `name` is
    what the message calls the question.
    """
    task = options.task
    if task not in family.tasks:
        raise UnsupportedError(f"{family.name} has the tasks {', '.join(family.tasks)}, got {task}")
    if takes_query(options, family):
        if not query.strip():
            what = "raw" if options.raw else f"task {task}"
            raise InvalidRequestError(f"{name} must say what to ask with {what}, got no words")
    elif query:
        raise InvalidRequestError(
            f"{name} must be empty with task {task}, which asks in words of its own; leave it out, "
            "or set raw to ask in yours"
        )


def open_checkpoint(
    place: str | Path,
    *,
    family: str | None = None,
    parts: GivenParts | None = None,
    vision_tower: str | Path | None = None,
) -> tuple[Family[Any, Any], FamilyCheckpoint | TextCheckpoint]:
    """Open a checkpoint of any family that can be served; imports PyTorch.

    Args:
        place: Directory in the layout of the family's reference, or a hub id for head "frames".
        family: Name of its family; recognised where None.
        parts: Of a family of head "text", those of its `part_names` that are not to be looked for.
        vision_tower: Of one of head "frames", where not found beside it.
    """
    name = recognise_family(place) if family is None else family
    if get_family(name).head == "text":
        if vision_tower is not None:
            raise UnsupportedError(
                f"the family {name} takes no vision_tower; its parts are named one by one "
                f"({', '.join(get_text_family(name).part_names)})"
            )
        text_family = get_text_family(name)
        return text_family, text_family.open_checkpoint(place, parts=parts or {})
    if parts:
        raise UnsupportedError(
            f"the family {name} has no part {shown(next(iter(parts)))}: its checkpoints are in one "
            "directory, their vision tower in another"
        )
    frames_family = get_frames_family(name)
    return frames_family, frames_family.open_checkpoint(place, vision_tower=vision_tower)


def recognise_family(place: str | Path) -> str:
    """Return the name of a checkpoint's family."""
    # Which says what is wrong with a config.json that cannot be read, when it opens the checkpoint.
    first = next(iter(_MODULES))
    families = [get_family(name) for name in family_names()]
    folder = local_place(place)
    for family in families:
        # Its parts lie in folders, none of them where a config.json is looked for.
        if family.head == "text" and get_text_family(family.name).recognises(folder):
            return family.name
    try:
        directory = find_checkpoint(place)
        if directory is None:  # on the hub
            return first
        raw_config = json.loads((directory / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return first
    if not isinstance(raw_config, dict):
        return first
    for family in families:
        if family.head == "frames" and get_frames_family(family.name).recognises(raw_config):
            return family.name
    raise UnsupportedError(
        f"checkpoint {place}: config.json with model_type {shown(raw_config.get('model_type'))} is "
        f"of none of the families that are served ({', '.join(family_names())})"
    )
