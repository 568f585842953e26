"""Answers as tensors: what each question has of a kind one after another, and where each begins.

Shape letters: Q questions, n tokens of all answers, p of all prompts, m moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Answer
from python_backend.triton._tensors import Tensors


def answer_tensors(answers: Sequence[Answer]) -> Tensors:
    """Return the outputs of head "text" but for INFO.

    Args:
        answers: Of Q >= 1 questions, in the order asked.

    Returns:
        `ANSWER` BYTES (Q,), `TOKEN_IDS` INT32 (n,), `MOMENTS` FP64 (m, 3) as start, end and score,
        NaN where there is none, `MOMENT_TEXTS` BYTES (m,), `PROMPT_TOKEN_IDS` INT32 (p,); and of
        each of these three kinds the offsets, INT64 (Q + 1,).
    """
    moments = [moment for answer in answers for moment in answer.moments]
    rows = [
        (one.start_seconds, one.end_seconds, math.nan if one.score is None else one.score)
        for one in moments
    ]
    return {
        "ANSWER": _texts([answer.text for answer in answers]),
        "TOKEN_IDS": np.concatenate([answer.token_ids for answer in answers]),
        "TOKEN_OFFSETS": _offsets([answer.token_ids for answer in answers]),
        "MOMENTS": np.array(rows, np.float64).reshape(-1, 3),
        "MOMENT_OFFSETS": _offsets([answer.moments for answer in answers]),
        "MOMENT_TEXTS": _texts([moment.text for moment in moments]),
        "PROMPT_TOKEN_IDS": np.concatenate([answer.prompt_token_ids for answer in answers]),
        "PROMPT_OFFSETS": _offsets([answer.prompt_token_ids for answer in answers]),
    }


def _texts(texts: Sequence[str]) -> NDArray[np.object_]:
    return np.array([text.encode("utf-8") for text in texts], np.object_)


def _offsets(parts: Sequence[Any]) -> NDArray[np.int64]:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)
