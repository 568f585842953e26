"""What a command says on a stderr that is no terminal: lines of steps, and the rest."""

from __future__ import annotations

import json
import re

_STEP = re.compile(r"\[(\d+\.\d) s\] (.+)")


def read_steps(stderr: str) -> list[tuple[float, str]]:
    """Return the steps, each with the seconds before it."""
    found = [match for line in stderr.splitlines() if (match := _STEP.fullmatch(line))]
    return [(float(match[1]), match[2]) for match in found]


def without_steps(stderr: str) -> str:
    """Return what is no step, line by line."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not _is_step(line))


def _is_step(line: str) -> bool:
    if line.startswith("{"):  # `serve` has JSON alone there
        return bool(json.loads(line)["event"] == "step")
    return _STEP.fullmatch(line.strip()) is not None


def assert_one_error(stderr: str, message: str) -> None:
    """Check that one line, the last, is the error, and that nothing else but steps was said."""
    said = without_steps(stderr)
    assert said.startswith("groundserve: error: "), stderr
    assert said.count("\n") == 1, stderr
    assert stderr.endswith(said)
    assert message in said
