"""A run's config as a TOML file."""

from __future__ import annotations

import math
import os
import tomllib
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from groundserve.errors import InvalidRequestError
from train.config import Stage, StageConfig
from train.families import find_family

_NONE = "none"
"""TOML has no null; this text stands for it where a field may be None."""


def read_config(stage: Stage | None, path: Path) -> StageConfig:
    """Read a run from a TOML file: a stage's config with what the file says instead.

    The stage is that of the family that trains from `init`; with `stage` None the file has to say
    which. docs/training_keys.md has the keys; relative paths start from the file's folder.

    Raises:
        InvalidRequestError: The file cannot be read, or breaks a rule.
        MissingExtraError: A package that the family is trained with is not installed.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise InvalidRequestError(f"{path} is not TOML: {error}") from error
    named = stage or raw.get("stage")
    stages = find_family(_init(raw, path), named if isinstance(named, str) else None).stages
    if stage is None:
        if raw.get("stage") not in stages:
            raise InvalidRequestError(
                f"{path}: stage must be one of {', '.join(get_args(Stage))}, got {named!r}; "
                "write it into the file, or name it on the command line"
            )
        stage = raw["stage"]
    base = stages[stage](init=Path(), records=Path(), media_root=Path(), out=Path())
    if raw.get("stage", stage) != stage:
        raise InvalidRequestError(f'{path}: stage must be "{stage}", got {raw["stage"]!r}')
    for table, required in ((raw, ("init", "out")), (raw.get("data"), ("records", "media_root"))):
        for key in required:
            if not isinstance(table, dict) or key not in table:
                name = key if table is raw else f"data.{key}"
                raise InvalidRequestError(f"{path}: {name} is required, it is missing")
    config: StageConfig = _replace_fields(base, raw, path, prefix="")
    return config


def _init(raw: dict[str, Any], path: Path) -> Path | None:
    """Return `init`, which says whose stages these are, before anything is checked."""
    try:
        return _convert(raw.get("init"), Path, path, "init")  # type: ignore[no-any-return]
    except InvalidRequestError:
        return None


def _replace_fields(base: Any, raw: dict[str, Any], path: Path, *, prefix: str) -> Any:
    hints = get_type_hints(base if isinstance(base, type) else type(base))
    unknown = sorted(raw.keys() - hints.keys())
    if unknown:
        raise InvalidRequestError(
            f"{path}: there is no setting {prefix}{unknown[0]}, got {raw[unknown[0]]!r}; "
            f"there are {', '.join(prefix + name for name in hints)}"
        )
    missing = [name for name in hints if isinstance(base, type) and name not in raw]
    if missing:
        raise InvalidRequestError(f"{path}: {prefix}{missing[0]} is required, it is missing")
    changes = {}
    for key, value in raw.items():
        name, hint = prefix + key, hints[key]
        component = component_of(hint)
        if component is not None:
            if not isinstance(value, dict):
                raise InvalidRequestError(f"{path}: {name} must be a table, got {value!r}")
            started = getattr(base, key) or component
            changes[key] = _replace_fields(started, value, path, prefix=f"{name}.")
        else:
            changes[key] = _convert(value, hint, path, name)
    try:
        return base(**changes) if isinstance(base, type) else replace(base, **changes)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{path}: {prefix}{error}") from error


def component_of(hint: Any) -> type | None:
    """Return the dataclass that a field holds or may hold, whose fields are a table; else None."""
    kinds = [kind for kind in get_args(hint) or (hint,) if is_dataclass(kind)]
    return kinds[0] if kinds else None  # type: ignore[return-value] # a class, not an instance


def _convert(value: Any, hint: Any, path: Path, name: str) -> Any:
    """Turn a TOML value into what the field holds; a bool is no number, an int is a float."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (kind,) = (kind for kind in get_args(hint) if kind is not NoneType)
        if value == _NONE:
            return None
        return _convert(value, kind, path, name)
    if origin is Literal:
        if value in get_args(hint):
            return value
        rule = f"one of {', '.join(get_args(hint))}"
    elif origin is tuple:
        kinds = get_args(hint)
        if isinstance(value, list) and len(value) == len(kinds):
            pairs = zip(value, kinds, strict=True)
            return tuple(_convert(item, kind, path, name) for item, kind in pairs)
        rule = f"a list of {len(kinds)}"
    elif hint is Path:
        if isinstance(value, str) and value:
            # Not Path's, which raises RuntimeError where there is no such user.
            return path.absolute().parent / os.path.expanduser(value)
        rule = "a path"
    elif hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(value):
            return float(value)
        rule = "a finite number"
    else:
        if type(value) is hint:  # not isinstance: True is an int
            return value
        rule = {int: "a whole number", bool: "true or false"}[hint]
    raise InvalidRequestError(f"{path}: {name} must be {rule}, got {value!r}")
