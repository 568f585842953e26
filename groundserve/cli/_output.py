"""How commands speak: tables on stdout, progress on stderr, JSON on the last line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

stdout = Console()
stderr = Console(stderr=True)


@contextmanager
def progress(first_step: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on stderr (nothing where it is not a terminal); yields a step setter."""
    with stderr.status(first_step) as status:
        yield status.update


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON on stdout, at once: who reads a pipe may wait for it."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Make a table with left-aligned columns; the last one takes the room that is left."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table
