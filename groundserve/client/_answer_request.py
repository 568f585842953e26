"""A request to a head of text, and its answer put together again from the tensors."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Answer, AnswerResult, GenerationInfo, Moment
from groundserve.arguments import check_answer_options, check_answer_queries
from groundserve.client._connection import Tensors
from groundserve.client._request import Request
from groundserve.results import VideoInfo, foreign_answer


class AnswerRequest(Request[AnswerResult]):
    """What a caller of `ask` asks."""

    head = "text"

    def __init__(self, *, queries: object, options: object, **given: object) -> None:
        checked = check_answer_options(options)
        super().__init__(queries=check_answer_queries(queries), options=checked, **given)
        self._task = checked.task

    def to_result(self, answer: Tensors) -> AnswerResult:
        """Return the answers, one for each question."""
        info = VideoInfo.from_json(answer["INFO"][0])
        generation = GenerationInfo.from_json(answer["INFO"][0])
        num_queries = len(self.queries)
        if not isinstance(info.engine.get("family"), str):  # which the result is told by
            raise foreign_answer("engine of INFO has no family")
        found = {len(answer["ANSWER"]), len(generation.stop_reasons)}
        if found != {num_queries}:
            raise foreign_answer(f"{num_queries} questions have {sorted(found)} answers")
        prompts = _divided(answer, "PROMPT_OFFSETS", "PROMPT_TOKEN_IDS")
        tokens = _divided(answer, "TOKEN_OFFSETS", "TOKEN_IDS")
        moments = _divided(answer, "MOMENT_OFFSETS", "MOMENTS", "MOMENT_TEXTS")
        return AnswerResult(
            video=self.video_name,
            info=info,
            frame_indices=answer["FRAME_INDICES"].copy(),
            pts_seconds=answer["PTS_SECONDS"].copy(),
            answers=[
                Answer(
                    query=query,
                    task=self._task,
                    prompt_token_ids=prompts[q][0],
                    token_ids=tokens[q][0],
                    text=_text(answer["ANSWER"][q]),
                    moments=tuple(map(_moment, *moments[q])),
                    stop_reason=generation.stop_reasons[q],
                )
                for q, query in enumerate(self.queries)
            ],
            generation=generation,
            request_id=self.request_id,
        )


def _divided(answer: Tensors, offsets_name: str, *names: str) -> list[list[NDArray[Any]]]:
    """Return each question's part of the tensors that hold all parts one after another.

    They are copies: gRPC's are views that cannot be written to and keep their message in memory.
    """
    offsets = answer[offsets_name].tolist()
    lengths = {len(answer[name]) for name in names}
    if offsets[:1] != [0] or offsets != sorted(offsets) or {offsets[-1]} != lengths:
        raise foreign_answer(f"{offsets_name} does not divide {' and '.join(names)}")
    if len(offsets) != len(answer["ANSWER"]) + 1:
        raise foreign_answer(f"{offsets_name} has {len(offsets)} entries")
    return [[answer[name][start:end].copy() for name in names] for start, end in pairwise(offsets)]


def _moment(row: NDArray[np.float64], text: bytes) -> Moment:
    start, end, score = row.tolist()
    return Moment(
        start_seconds=start,
        end_seconds=end,
        score=None if math.isnan(score) else score,
        text=_text(text),
    )


def _text(element: bytes) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise foreign_answer("a text is not UTF-8") from None
