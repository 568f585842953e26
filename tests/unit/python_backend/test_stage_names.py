"""Every stage that is timed has a name that the metrics know, and every name is a stage's."""

from __future__ import annotations

import ast
from pathlib import Path

import python_backend
from python_backend.stopwatch import STAGES


def measured_names() -> set[str]:
    """The first argument of every call of a `measure`, in all that stopwatches are used in."""
    calls = [
        node
        for path in Path(python_backend.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "measure"
    ]
    return {ast.literal_eval(call.args[0]) for call in calls}


def test_what_is_measured_are_the_stages():
    assert measured_names() == set(STAGES)
