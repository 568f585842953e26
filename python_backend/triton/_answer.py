"""What a model made of one request, and the line the server's log gets of it.

The line holds numbers, classes, messages of ours without what they quote, and the caller's request
id; never a question, a URI or a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from groundserve.results import PUBLISHED_FACTS
from python_backend.stopwatch import STAGES
from python_backend.triton._errors import code_and_message, error_class
from python_backend.triton._redact import without_quotations
from python_backend.triton._tensors import Tensors

# An id is the caller's text, of any length; a line of the log is not.
_MAX_ID_CHARACTERS = 64
_MAX_SIZE = 2**63
# Not `num_frames`, which is the ceiling there: how many were scored is read off the tensors.
_SIZES = ("video_bytes", *PUBLISHED_FACTS, "cache_hit")
_GENERATION_SIZES = ("prefix_tokens", "prompt_tokens", "generated_tokens")
# The leading dimensions of an input, by what they count. They are known even where a request is
# refused before anything is read.
_SIZES_BY_INPUT = {
    "VIDEO": ("video_bytes",),
    "QUERY": ("num_queries",),
    "FEATURES": ("num_frames",),
    "FRAME_LOGITS": ("num_queries", "num_frames"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model answers to one request."""

    outputs: Tensors
    """Tensors for the caller."""
    timing_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds of this model's own stages."""
    report: Mapping[str, Any] | None = None
    """What INFO says of the whole request, from the model that ends it; None where it goes on."""

    @property
    def goes_on(self) -> bool:
        """Whether another model is still to be called, which then tells the log."""
        return self.report is None


def log_line(
    model_name: str,
    request_id: str,
    result: Answer | Exception,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    seconds: float,
) -> str:
    """Return one line of JSON for a request that ends here, see `Answer.goes_on`.

    Args:
        model_name: The model that ends the request.
        request_id: The caller's; whatever is not printable ASCII becomes a question mark.
        result: How it ended.
        shapes: Of the model's inputs.
        seconds: How long this model worked on it.
    """
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        "request_id": _printable(request_id),
        "model": model_name,
        **_input_sizes(shapes),
    }
    if isinstance(result, Exception):
        # Messages of ours quote what they repeat of a request, and the log holds none of that.
        message = without_quotations(code_and_message(result)[1])
        line |= {"outcome": "error", "error": error_class(result), "message": message}
        line["seconds"] = round(seconds, 3)
    elif result.report is not None:
        line |= {"outcome": "ok", **_known(result.report, _SIZES)}
        if "generation" in result.report:
            line |= _known(result.report["generation"], _GENERATION_SIZES)
        timing_ms = _known(result.report["timing_ms"], STAGES)
        line["timing_ms"] = {stage: round(ms, 3) for stage, ms in timing_ms.items()}
    # ASCII: what is not is escaped, so a line of the log stays one line.
    return json.dumps(line)


def _input_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name, kinds in _SIZES_BY_INPUT.items():
        # FEATURES has more dimensions than are told here.
        sizes |= zip(kinds, shapes.get(name, ()), strict=False)
    return sizes


def _known(facts: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """What a step before told; whoever calls an inner model directly may have made it up."""
    return {name: facts[name] for name in names if _is_size(facts.get(name))}


def _is_size(value: object) -> bool:
    return isinstance(value, bool | int | float) and 0 <= value < _MAX_SIZE  # neither is NaN


def _printable(request_id: str) -> str:
    return "".join(
        character if " " <= character <= "~" else "?"
        for character in request_id[:_MAX_ID_CHARACTERS]
    )
