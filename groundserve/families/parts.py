"""Finding the parts of a checkpoint that lie apart: as given by name, else as a layout has them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import shown

CHOICES_NAME = "groundserve_parts.json"
"""File of a copy: switches and numbers it was opened with, such as `{"clip_heads": "5"}`."""

GivenParts = Mapping[str, Sequence[str | Path]]
"""By name what is not to be looked for: files or directories, found as they are or below the
checkpoint's directory, or the value of a switch or a number."""


@dataclass(frozen=True, kw_only=True)
class FoundParts:
    """Where each part lies; a family adds a field for each of its own."""

    choices: Mapping[str, str]
    """The switches and numbers that were given, for a copy."""
    left_aside: tuple[str, ...] = ()
    """Unused files, by name."""


@dataclass(frozen=True, kw_only=True)
class LlamaParts(FoundParts):
    """Parts of a checkpoint whose decoder is Llama."""

    base: Path
    """Directory of the decoder before it was adapted, with its tokenizer."""


class PartSearch:
    """One look through a directory; what is missing is told together."""

    def __init__(
        self,
        directory: Path,
        given: GivenParts,
        *,
        family: str,
        looks: Mapping[str, str],
        repeated: Iterable[str] = (),
        switches: Mapping[str, Sequence[str]] | None = None,
        numbers: Iterable[str] = (),
    ) -> None:
        """Check the names of what is given, before it what a copy says that it was opened with.

        Args:
            directory: Where what is not given is looked for.
            given: By name.
            family: For errors.
            looks: Part -> what it looks like, for who has to name it.
            repeated: Parts of which there may be several, in order.
            switches: What is no part but a choice -> its values.
            numbers: What is no part but a whole number above 0.
        """
        if not os.path.isdir(directory):  # Path's own raises where a name is too long
            raise InvalidRequestError(f"checkpoint {directory}: no such directory")
        self.directory = directory
        self._left_aside: list[str] = []
        self._family = family
        self._looks = looks
        self._repeated = frozenset(repeated)
        self._switches = switches or {}
        self._numbers = tuple(numbers)
        self._choices = (*self._switches, *self._numbers)
        self._found: dict[str, tuple[Path, ...]] = {}
        known = [*looks, *self._choices]
        for name, values in given.items():
            if name not in known:
                raise InvalidRequestError(
                    f"{family} has no part {name!r}; its parts are {', '.join(known)}"
                )
            # A text is a sequence, too: of its letters.
            if not isinstance(values, list | tuple) or not all(
                isinstance(value, str | Path) for value in values
            ):
                raise InvalidRequestError(
                    f"the part {name} must be a list of paths or texts, got {shown(values)}"
                )
        self._given = {**self._choices_of_copy(), **given}

    @property
    def where(self) -> str:
        """The directory as an error names it."""
        return f"checkpoint {self.directory.name}"

    @property
    def folders(self) -> list[Path]:
        """Folders in the directory, in name order."""
        return sorted(path for path in self.directory.iterdir() if path.is_dir())

    def part(self, name: str, find: Callable[[], Sequence[Path]]) -> tuple[Path, ...]:
        """Return a part as given, else as found; () where it is missing."""
        if name in self._given:
            values = self._given[name]
            if not values or (len(values) > 1 and name not in self._repeated):
                raise InvalidRequestError(
                    f"{self.where}: the part {name} must be named once, got {len(values)} names"
                )
            paths = tuple(self._existing(name, value) for value in values)
        else:
            paths = tuple(find())
        if paths:
            self._found[name] = paths
        return paths

    def switch(self, name: str, default: str) -> str:
        """Return the value of a switch as given, else the default."""
        values, allowed = self._values(name, default), self._switches[name]
        if name in self._given and (len(values) != 1 or values[0] not in allowed):
            raise InvalidRequestError(
                f"{self.where}: the part {name} must be {' or '.join(allowed)}, "
                f"got {', '.join(values)}"
            )
        return values[0]

    def fields(self) -> dict[str, Any]:
        """Return the fields of `FoundParts` and, by name, numbers and each part's path.

        What is missing is said at once, and what was found.
        """
        missing = [name for name in self._looks if name not in self._found]
        if missing:
            lacks = "; ".join(f"{name} ({self._looks[name]})" for name in missing)
            has = ", ".join(
                f"{name} {' '.join(path.name for path in paths)}"
                for name, paths in self._found.items()
            )
            raise InvalidRequestError(
                f"{self.where}: parts of {self._family} are missing: {lacks}; found: "
                f"{has or 'none'}; name what lies elsewhere, as with --part {missing[0]}=PATH"
            )
        given = [name for name in self._choices if name in self._given]
        return {
            **{name: paths[0] for name, paths in self._found.items()},
            **{name: self._number(name) for name in self._numbers},
            "choices": {name: str(self._given[name][0]) for name in given},
            "left_aside": tuple(self._left_aside),
        }

    def leave_aside(self, paths: Iterable[Path]) -> None:
        """Note unused files of the directory."""
        self._left_aside += [str(path.relative_to(self.directory)) for path in paths]

    def at_most_one(self, name: str, paths: Sequence[Path]) -> Sequence[Path]:
        """Return what was found of a part of which there may not be several."""
        if len(paths) > 1:
            raise self.several(name, paths)
        return paths

    def several(self, name: str, paths: Sequence[Path]) -> InvalidRequestError:
        """Return the error that says that a part is to be chosen."""
        shown = ", ".join(str(path.relative_to(self.directory)) for path in paths)
        return InvalidRequestError(
            f"{self.where}: the part {name} may be {shown}; choose with --part {name}=PATH"
        )

    def _values(self, name: str, *default: str) -> list[str]:
        return [str(value) for value in self._given.get(name, default)]

    def _number(self, name: str) -> int | None:
        if name not in self._given:
            return None
        values = self._values(name)
        if len(values) != 1 or not re.fullmatch("[1-9][0-9]{0,5}", values[0]):
            raise InvalidRequestError(
                f"{self.where}: the part {name} must be one whole number above 0, "
                f"got {shown(', '.join(values))}"
            )
        return int(values[0])

    def _choices_of_copy(self) -> dict[str, Sequence[str]]:
        path = self.directory / CHOICES_NAME
        if not path.exists():
            return {}
        try:
            raw = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            raw = None
        # To pass over what is in it would be to compute otherwise than the copy says, unnoticed.
        if (
            not isinstance(raw, dict)
            or raw.keys() - {*self._choices}
            or not all(isinstance(value, str) for value in raw.values())
        ):
            raise InvalidRequestError(
                f"{self.where}: {CHOICES_NAME} must hold texts by the names "
                f"{', '.join(self._choices)}, such as the copy was made with; copy it again"
            )
        return {name: [value] for name, value in raw.items()}

    def _existing(self, name: str, value: str | Path) -> Path:
        path = Path(os.path.expanduser(value))
        for place in (path, self.directory / path):
            if os.path.exists(place):
                return place.resolve()
        raise InvalidRequestError(
            f"{self.where}: the part {name} is {self._looks[name]}; there is nothing at {value}"
        )


def write_choices(directory: Path, choices: Mapping[str, str]) -> None:
    """Write into a copy what it was opened with, so that it is opened so again."""
    if choices:
        (directory / CHOICES_NAME).write_text(json.dumps(choices), "utf-8")


def tower_heads(
    width: int,
    *,
    part: str,
    given: int | None,
    described: int | None = None,
    head_size: int | None = None,
) -> int:
    """Return into how many heads a tower's width is split, which its weights do not say.

    As `given` by hand; else as `described` by a config, or by the published tower of this width;
    else by the `head_size` of published towers, of every width that is a multiple of it.
    """
    heads = given or described
    if heads is None and head_size is not None and width % head_size == 0:
        return width // head_size
    if heads is None:
        raise InvalidRequestError(
            f"the part {part}: its files do not say how many heads a tower of width {width} has; "
            f"give their number with --part {part}_heads=N"
        )
    if width % heads:
        raise InvalidRequestError(
            f"the part {part}: its width, {width}, must be a multiple of its number of heads, got "
            f"{heads}; give the right one with --part {part}_heads=N"
        )
    return heads
