"""What `--checkpoint` and the options that go with it name, looked at without reading weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families import (
    family_names,
    get_family,
    get_text_family,
    recognise_family,
)
from groundserve.families.base import Family
from groundserve.weights.checkpoint_place import find_checkpoint


def checkpoint_family(
    checkpoint: str,
    *,
    family: str | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    vision_tower: str | None = None,
) -> Family[Any, Any]:
    """Return a checkpoint's family, without reading weights or importing PyTorch."""
    if family is not None and family not in family_names():
        raise UnsupportedError(
            f"--family must be one of {', '.join(family_names())}, got {family!r}"
        )
    found = get_family(family or recognise_family(checkpoint))
    names = get_text_family(found.name).part_names if found.head == "text" else ()
    if found.head == "text":
        if vision_tower is not None:
            raise UnsupportedError(
                f"--vision-tower is no part of the family {found.name}; give --part NAME=VALUE "
                f"with one of {', '.join(names)}"
            )
    else:
        try:
            find_checkpoint(checkpoint)
        except InvalidRequestError as error:
            if not parts or family is not None:
                raise
            raise InvalidRequestError(
                f"{error}; or say with --family of which family the parts named with --part are"
            ) from error
        if vision_tower is not None:
            find_checkpoint(vision_tower)
    for name in parts or ():
        if name not in names:
            raise UnsupportedError(
                f"--part must name one of {', '.join(names) or 'none'} in the family "
                f"{found.name}, got {name!r}"
            )
    return found
