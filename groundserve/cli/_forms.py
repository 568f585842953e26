"""Commands with a form of their own beside the one that runs them, told by the first word."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

RUN = "run"
"""The command that has no word of its own."""
_SPEECH = ("--quiet", "--verbose")


def forms_of(other: str) -> type[TyperGroup]:
    """Return a group that is `RUN`, and another command where the first word is its name."""

    class Forms(TyperGroup):
        def make_context(
            self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
        ) -> Any:
            first = next((word for word in args if word not in _SPEECH), None)
            if first == other:
                return super().make_context(info_name, args, parent, **extra)
            return self.commands[RUN].make_context(info_name, args, parent, **extra)

    return Forms
