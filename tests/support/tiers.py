"""Which tests `make test` leaves to `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.support.reference import REPOSITORY

THOROUGH: tuple[str, ...] = ()
"""Folders, files and tests, as the beginning of a test's id."""


def mark_thorough(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that `THOROUGH` names."""
    for item in items:
        if item.nodeid.startswith(THOROUGH):
            item.add_marker(pytest.mark.thorough)


def missing_files() -> list[str]:
    """What the list names and is not there."""
    return [name for name in THOROUGH if not (REPOSITORY / name.partition("::")[0]).exists()]
