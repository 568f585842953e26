"""Every key of a training config: draws docs/training_keys.md from the dataclasses.

`python -m scripts.training_keys` writes the page; `tests/unit/train/test_training_keys.py` holds
page and code together. Names, types and texts are those of `train/config.py`, defaults those of
each stage in `train/families/videoitg/stages.py`, as a TOML file that names only paths would have
them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from train.config import ValidationConfig
from train.config_file import component_of
from train.families.videoitg.stages import STAGES

PAGE = Path(__file__).parent.parent / "docs" / "training_keys.md"

_HEAD = """# Keys of a training config

Drawn from `train/config.py` and `train/families/videoitg/stages.py` by
`python -m scripts.training_keys`. A TOML file ([train.md](train.md#a-run)) says what differs
from these. A relative path starts from the file's folder. Where a default differs by stage, it is
given for `projector` / `images` / `video` / `grounding`. `"none"` is no value, for keys that say
so; the texts call it None.
"""
_REQUIRED = "required"
_WORDS = {int: "whole number", float: "number", bool: "true or false", Path: "path"}
_TABLES = {
    "": "## At the top",
    "data": "## `[data]`",
    "optimizer": "## `[optimizer]`",
    "validation": "## `[validation]`\n\nIn stage `grounding` only; without it nothing is measured.",
}


def draw_page() -> str:
    """Return the page."""
    paths = {name: Path(_REQUIRED) for name in ("init", "records", "media_root", "out")}
    configs = [make(**paths) for make in STAGES.values()]
    parts = [_HEAD]
    for table, heading in _TABLES.items():
        parts += [f"{heading}\n", "| key | type | default | |", "| --- | --- | --- | --- |"]
        made = [getattr(config, table) if table else config for config in configs]
        parts += [*_rows(ValidationConfig if table == "validation" else type(made[0]), made), ""]
    return "\n".join(parts)


def _rows(component: type, made: list[Any]) -> Iterator[str]:
    hints, texts = get_type_hints(component), field_texts(component)
    for field in fields(component):
        if component_of(hints[field.name]) is not None:
            continue
        defaults = [_REQUIRED if one is None else _toml(getattr(one, field.name)) for one in made]
        default = defaults[0] if len(set(defaults)) == 1 else " / ".join(defaults)
        if field.name == "stage":
            default = "that of the command"
        yield f"| `{field.name}` | {_type(hints[field.name])} | {default} | {texts[field.name]} |"


def field_texts(component: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, on one line.

    Raises:
        ValueError: A field has none.
    """
    (tree,) = ast.parse(inspect.getsource(component)).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        match following:
            case ast.Expr(value=ast.Constant(value=str(text))):
                texts[node.target.id] = " ".join(text.split()).replace("|", "\\|")
            case _:
                raise ValueError(f"{component.__name__}.{node.target.id} has no string under it")
    return texts


def _type(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        (kind,) = (kind for kind in get_args(hint) if kind is not NoneType)
        return f'{_type(kind)}, or `"none"`'
    if get_origin(hint) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {len(get_args(hint))} numbers"
    return _WORDS[hint]


def _toml(value: Any) -> str:
    if value == Path(_REQUIRED):
        return _REQUIRED
    if value is None:
        return '`"none"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def main() -> None:
    """Write the page."""
    PAGE.write_text(draw_page(), "utf-8")


if __name__ == "__main__":
    main()
