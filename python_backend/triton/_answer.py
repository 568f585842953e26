"""What a model made of one request, and the line the server's log gets of it.

The line holds numbers, classes, messages of ours without what they quote, and the caller's request
id; never a question, a URI or a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from groundserve.results import PUBLISHED_FACTS
from python_backend.stopwatch import STAGES
from python_backend.triton._errors import code_and_message, error_class
from python_backend.triton._redact import without_quotations
from python_backend.triton._tensors import Tensors, json_tensor

# An id is the caller's text, of any length; a line of the log is not.
_MAX_ID_CHARACTERS = 64
# Not `num_frames`, which is the ceiling there: how many were scored is read off the tensors.
_SIZES = ("video_bytes", *PUBLISHED_FACTS, "cache_hit")
_GENERATION_SIZES = ("prefix_tokens", "prompt_tokens", "generated_tokens")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the model `front` answers to one request."""

    outputs: Tensors
    """Tensors for the caller, but INFO."""
    info: Mapping[str, Any]
    """What INFO says: JSON values only, `timing_ms` among them."""

    def tensors(self) -> Tensors:
        """Return all outputs."""
        return {**self.outputs, "INFO": json_tensor(self.info)}


def log_line(
    request_id: str,
    result: Answer | Exception,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    seconds: float,
) -> str:
    """Return one line of JSON for a request.

    Args:
        request_id: The caller's; whatever is not printable ASCII becomes a question mark.
        result: How it ended.
        shapes: Of the model's inputs, which are known even where a request is refused unread.
        seconds: How long it took.
    """
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        "request_id": _printable(request_id),
    }
    for name, size in (("VIDEO", "video_bytes"), ("QUERY", "num_queries")):
        line |= {size: shapes[name][0]} if shapes.get(name) else {}
    if isinstance(result, Exception):
        # Messages of ours quote what they repeat of a request, and the log holds none of that.
        message = without_quotations(code_and_message(result)[1])
        line |= {"outcome": "error", "error": error_class(result), "message": message}
        line["seconds"] = round(seconds, 3)
    else:
        line |= {"outcome": "ok", "num_frames": len(result.outputs["FRAME_INDICES"])}
        line |= _known(result.info, _SIZES)
        line |= _known(result.info.get("generation", {}), _GENERATION_SIZES)
        timing_ms = _known(result.info["timing_ms"], STAGES)
        line["timing_ms"] = {stage: round(ms, 3) for stage, ms in timing_ms.items()}
    # ASCII: what is not is escaped, so a line of the log stays one line.
    return json.dumps(line)


def _known(facts: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: facts[name] for name in names if name in facts}


def _printable(request_id: str) -> str:
    return "".join(
        character if " " <= character <= "~" else "?"
        for character in request_id[:_MAX_ID_CHARACTERS]
    )
