"""How commands speak: tables on stdout, progress and notes on stderr, JSON on the last line."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_WIDTH = 10_000
"""Where nobody looks at a terminal nothing is wrapped or cut: a script reads line by line."""

# Controls of a terminal, and those that turn the direction of text around. What a file's name, a
# question or a checkpoint holds must not steer the terminal that it is shown on.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

STARTED = time.monotonic()
"""When the command began, which the seconds of its steps count from, also where they end and others
begin."""
stdout = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
stderr = Console(stderr=True)
"""Progress and notes. `--quiet` sets its `quiet`, so what must be said goes to `say_error`."""


def printable(text: str) -> str:
    """Return the text on one line: control characters, newlines too, as Python escapes them."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def cell(text: str, *, style: str = "") -> Text:
    """Return what others wrote, such as a file's name, as a table shows it: without markup."""
    return Text(printable(text), style=style)


def print_line(text: str, *, style: str = "") -> None:
    """Print one line on stdout as it is: no markup, no colours of its own, not wrapped."""
    stdout.print(cell(text, style=style), highlight=False, soft_wrap=True)


def print_note(text: str) -> None:
    """Print `note: ...` on stderr as one line, unless --quiet was given."""
    text = " ".join(text.split())  # a checkpoint's note may have several lines
    stderr.print(cell(f"note: {text}"), highlight=False, soft_wrap=True)


def say_error(text: str) -> None:
    """Print one line on stderr, with --quiet too."""
    print(printable(text), file=sys.stderr, flush=True)


def print_step(step: str, seconds: float) -> None:
    """Print a step that begins, and the seconds before it, as a plain line on stderr, at once."""
    print(f"[{seconds:.1f} s] {printable(step)}", file=sys.stderr, flush=True)


def step_lines(
    *, write: Callable[[str, float], None] = print_step, every_seconds: float = 0.0
) -> Callable[[str], None]:
    """Return what writes a line for each step as it begins; none with --quiet.

    Steps that come sooner than `every_seconds` after another one are left out.
    """
    next_line = 0.0

    def show(step: str) -> None:
        nonlocal next_line
        now = time.monotonic()
        if step and now >= next_line and not stderr.quiet:
            next_line = now + every_seconds
            write(step, now - STARTED)

    return show


@contextmanager
def progress(
    first_step: str,
    *,
    write: Callable[[str, float], None] = print_step,
    every_seconds: float = 0.0,
) -> Iterator[Callable[[str], None]]:
    """Show the step in hand on stderr: a spinner on a terminal, elsewhere `step_lines`.

    An empty first step has no line.

    Yields:
        What is to be called with each further step.
    """
    if not stderr.is_terminal:
        show = step_lines(write=write, every_seconds=every_seconds)
        show(first_step)
        yield show
        return
    with stderr.status(cell(first_step)) as status:
        yield lambda step: status.update(cell(step))


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


def plain_table(*columns: str) -> Table:
    """Make a table with left-aligned columns; the last one takes the room that is left."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
