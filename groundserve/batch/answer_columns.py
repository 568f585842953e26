"""An answer as columns of a run's Parquet files: scores of frames, or text with its moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from groundserve.answers import Answer, AnswerResult
from groundserve.results import QueryResult, ScoreResult


def answer_columns(result: ScoreResult | AnswerResult) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each question with the columns of its answer."""
    video = {
        "num_source_frames": result.info.num_source_frames,
        "fps": result.info.fps,
        "duration_seconds": result.info.duration_seconds,
        "frame_indices": result.frame_indices,
        "pts_seconds": result.pts_seconds,
    }
    if isinstance(result, AnswerResult):
        for answer in result.answers:
            yield answer.query, video | _text_columns(answer)
    else:
        for query in result.queries:
            yield query.query, video | _score_columns(query)


def _text_columns(answer: Answer) -> dict[str, Any]:
    return {
        "answer": as_unicode(answer.text),
        "stop_reason": answer.stop_reason,
        "moments": [
            {**asdict(moment), "text": as_unicode(moment.text)} for moment in answer.moments
        ],
    }


def _score_columns(query: QueryResult) -> dict[str, Any]:
    return {
        "frame_logits": query.frame_logits,
        "frame_scores": query.frame_scores,
        "selected_frames": query.selected_frames,
        "selected_seconds": query.selected_seconds,
        "spans": [span._asdict() for span in query.spans],
    }


def as_unicode(text: str) -> str:
    """Return a text as Parquet can hold it: what is no Unicode is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
