"""Command lines of runners: what an argument must be, and errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from groundserve.errors import GroundserveError

T = TypeVar("T")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a typed error is one line and status 1, as of `groundserve` itself."""
    try:
        main()
    except GroundserveError as error:
        raise SystemExit(f"{Path(sys.argv[0]).stem}: error: {error}") from None


def existing_file(text: str) -> Path:
    """Read an argument that names a file, which must be there before anything is measured."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return path


def positive(text: str) -> int:
    """Read an argument that counts something, >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return what reads an argument of values with commas between them."""

    def parse(text: str) -> list[T]:
        return [kind(one) for one in text.split(",") if one]

    return parse
