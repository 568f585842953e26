"""What a model made of one request, and the line the server's log gets of it.

The line holds numbers, classes and the caller's request id; never a question, a URI or a path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from python_backend.triton._errors import error_class
from python_backend.triton._tensors import Tensors

_MAX_ID_CHARACTERS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model answers to one request."""

    outputs: Tensors
    """Tensors for the caller."""
    timing_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds of this model's own stages."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Sizes and the like for the log; JSON values only."""


def log_line(model_name: str, request_id: str, result: Answer | Exception) -> str:
    """Return one line of JSON."""
    line: dict[str, Any] = {"model": model_name, "request_id": request_id[:_MAX_ID_CHARACTERS]}
    if isinstance(result, Exception):
        line["error"] = error_class(result)
    else:
        line |= result.facts
        line["timing_ms"] = {stage: round(ms, 3) for stage, ms in result.timing_ms.items()}
    return json.dumps(line)
