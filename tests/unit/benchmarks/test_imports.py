"""Programs that no other test runs can still be imported after a move of what they import."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks
import scripts


@pytest.mark.parametrize(
    "module",
    [
        one.name
        for package in (benchmarks, scripts)
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ],
)
def test_program_can_be_imported(module):
    importlib.import_module(module)
