"""Asks a model for the highlights of videos, and keeps them as QVHighlights' predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.asking import ask_whole, batches, find_answered
from groundserve.evaluation.highlight_answers import moment_scores, question_of
from groundserve.evaluation.highlights import clip_scores
from groundserve.evaluation.line_file import append_lines, open_lines
from groundserve.evaluation.qvhighlights_files import GroundTruth, QueryId
from groundserve.options import AnswerOptions
from groundserve.scorer import Answerer


def find_answered_queries(path: Path, *, model: str) -> set[str]:
    """Return the queries, as text, that a file answers already; see `asking.find_answered`."""
    return find_answered(path, question_of, model=model)


def ask_highlights(
    answerer: Answerer,
    truths: Mapping[QueryId, GroundTruth],
    videos: Mapping[str, Path],
    path: Path,
    *,
    model: str,
    max_new_tokens: int,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> None:
    """Ask what a file does not answer yet, video by video, and append each answer as it comes.

    Args:
        answerer: A pipeline or a client; used as it is, in greedy decoding.
        truths: By query, each with ratings and words.
        videos: The files of those that are asked about.
        path: The file.
        model: What the file calls the answerer; it must have no other's answers.
        max_new_tokens: Of an answer.
        on_video: Called with the number of each video, from 1, and the number of videos.

    Raises:
        InvalidRequestError: As `find_answered_queries`, a query is blank, or a video cannot be
            answered.
        UnavailableError: Another process appends to the file.
        DeadlineExceededError: An answer ended because time ran out; it is not kept.
    """
    about: dict[str, list[QueryId]] = {}
    for query, truth in truths.items():
        if truth.video in videos:
            if not (truth.query or "").strip(". \t\r\n"):
                raise InvalidRequestError(
                    f"qid {query} of the ground truth has no words: its highlights cannot be asked "
                    "for"
                )
            about.setdefault(truth.video, []).append(query)
    find_answered_queries(path, model=model)  # opening it drops what has no end
    options = AnswerOptions(task="highlights", max_new_tokens=max_new_tokens)
    with open_lines(path) as file:
        answered = find_answered_queries(path, model=model)
        for place, (video, queries) in enumerate(about.items(), start=1):
            on_video(place, len(about))
            left = [query for query in queries if str(query) not in answered]
            for some in batches(left):
                words = [truths[query].query or "" for query in some]
                result = ask_whole(answerer, videos[video], words, options)
                lines = [
                    _line(query, truths[query], answer, result, model)
                    for query, answer in zip(some, result.answers, strict=True)
                ]
                append_lines(file, lines)


def _line(
    query: QueryId, truth: GroundTruth, answer: Answer, result: AnswerResult, model: str
) -> dict[str, Any]:
    assert truth.duration_seconds is not None, "the caller has checked the ratings"
    scores = clip_scores(moment_scores(answer.moments), truth.duration_seconds)
    return {
        "qid": query,
        "query": truth.query,
        "vid": truth.video,
        "pred_saliency_scores": scores.tolist(),
        "answer": answer.text,
        "moments": [moment.to_json() for moment in answer.moments],
        "duration_seconds": result.info.duration_seconds,
        "model": model,
    }
