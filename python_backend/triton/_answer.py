"""What a model made of one request, and the line the server's log gets of it.

The line holds numbers, classes, messages of ours without what they quote, and the caller's request
id; never a question, a URI or a path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from groundserve.answers import Answer as TextAnswer
from groundserve.results import PUBLISHED_FACTS
from python_backend.stopwatch import STAGES
from python_backend.triton._errors import code_and_message, error_class
from python_backend.triton._redact import without_quotations
from python_backend.triton._tensors import Tensors, joined, json_tensor, offsets, text_tensor

# An id is the caller's text, of any length; a line of the log is not.
_MAX_ID_CHARACTERS = 64
# Not `num_frames`, which is the ceiling there: how many were scored is read off the tensors.
_SIZES = ("video_bytes", *PUBLISHED_FACTS, "cache_hit")
_GENERATION_SIZES = ("prefix_tokens", "prompt_tokens", "generated_tokens")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What the model `front` answers to one request."""

    outputs: Tensors
    """All but INFO."""
    info: Mapping[str, Any]
    """JSON values only, `timing_ms` among them."""

    def tensors(self) -> Tensors:
        """Return all outputs."""
        return {**self.outputs, "INFO": json_tensor(self.info)}


def answer_tensors(answers: Sequence[TextAnswer]) -> Tensors:
    """Return the outputs of head "text" that are made of the answers to Q >= 1 questions.

    Each kind, as `engine_build.triton.text_head` declares them, stands one after another, with
    where each question's part begins. `MOMENTS` are start, end and score, NaN where there is none.
    """
    moments = [moment for answer in answers for moment in answer.moments]
    rows = [
        (one.start_seconds, one.end_seconds, math.nan if one.score is None else one.score)
        for one in moments
    ]
    token_ids, token_offsets = joined([answer.token_ids for answer in answers])
    prompt_ids, prompt_offsets = joined([answer.prompt_token_ids for answer in answers])
    return {
        "ANSWER": text_tensor(*(answer.text for answer in answers)),
        "TOKEN_IDS": token_ids,
        "TOKEN_OFFSETS": token_offsets,
        "MOMENTS": np.array(rows, np.float64).reshape(-1, 3),
        "MOMENT_OFFSETS": offsets([answer.moments for answer in answers]),
        "MOMENT_TEXTS": text_tensor(*(moment.text for moment in moments)),
        "PROMPT_TOKEN_IDS": prompt_ids,
        "PROMPT_OFFSETS": prompt_offsets,
    }


def log_line(
    request_id: str,
    result: Answer | Exception,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    seconds: float,
) -> str:
    """Return one line of JSON for a request.

    `shapes` are those of the model's inputs, which are known even where it is refused unread.
    """
    line: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        "request_id": re.sub(r"[^ -~]", "?", request_id[:_MAX_ID_CHARACTERS]),
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
