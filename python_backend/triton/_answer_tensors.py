"""Answers as tensors: what each question has of a kind one after another, and where each begins.

Shape letters: Q questions, n tokens of all answers, p of all prompts, m moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from groundserve.answers import Answer
from python_backend.triton._tensors import Tensors, joined, offsets, text_tensor


def answer_tensors(answers: Sequence[Answer]) -> Tensors:
    """Return the outputs of head "text" that are made of its answers.

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
