"""How commands speak: tables on stdout, progress on stderr, JSON on the last line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

stdout = Console()
stderr = Console(stderr=True)


def print_step(step: str, seconds: float) -> None:
    """Print a step that begins, and the seconds before it, as a plain line on stderr, at once."""
    print(f"[{seconds:.1f} s] {step}", file=sys.stderr, flush=True)


class StepLines:
    """A line for each step, for where stderr is no terminal."""

    def __init__(
        self, *, write: Callable[[str, float], None] = print_step, every_seconds: float = 0.0
    ) -> None:
        """Start the clock.

        Args:
            write: Takes a step that begins and the seconds since the start.
            every_seconds: Least time between two lines; steps that come sooner are left out.
        """
        self._write = write
        self._every_seconds = every_seconds
        self._start = self._next = time.monotonic()

    def show(self, step: str) -> None:
        """Write the step that begins now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every_seconds
            self._write(step, now - self._start)


@contextmanager
def progress(
    first_step: str, *, write: Callable[[str, float], None] = print_step
) -> Iterator[Callable[[str], None]]:
    """Show the step in hand on stderr: a spinner on a terminal, elsewhere a line a step.

    Args:
        first_step: What is done first.
        write: Writes such a line.

    Yields:
        What is to be called with each further step.
    """
    if not stderr.is_terminal:
        lines = StepLines(write=write)
        lines.show(first_step)
        yield lines.show
        return
    with stderr.status(first_step) as status:
        yield status.update


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON on stdout, at once: who reads a pipe may wait for it.

    Where stdout cannot show a character, as of a file's name that is not UTF-8, it is escaped.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    print(text, flush=True)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Make a table with left-aligned columns; the last one takes the room that is left."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table
