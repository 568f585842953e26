"""Asks a model what a file of answers lacks, and appends what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import DeadlineExceededError, InvalidRequestError
from groundserve.evaluation.line_file import append_lines, open_lines, read_ended_lines
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.scorer import Answerer
from groundserve.strict_json import shown

_Question = TypeVar("_Question")


def find_answered(
    path: Path, question_of: Callable[[Mapping[str, Any]], _Question], *, model: str
) -> set[_Question]:
    """Return what a file answers already; one that is not there answers nothing.

    Args:
        path: The file.
        question_of: From a line to what it answers; a ValueError says that it is no such line.
        model: Whose answers they must be.
    """
    answered = set()
    for where, line in read_ended_lines(path):
        if line.get("model") != model:
            raise InvalidRequestError(
                f"{where}: answered by {shown(line.get('model'))} and not by {shown(model)}; name "
                "another file for this model's answers"
            )
        try:
            answered.add(question_of(line))
        except ValueError as error:
            raise InvalidRequestError(f"{where}: {error}") from error
    return answered


def ask_left(
    answerer: Answerer,
    asked: Mapping[str, Sequence[_Question]],
    videos: Mapping[str, Path],
    path: Path,
    *,
    options: AnswerOptions,
    model: str,
    question_of: Callable[[Mapping[str, Any]], _Question],
    query_of: Callable[[_Question], str | None],
    line_of: Callable[[_Question, Answer, AnswerResult], Mapping[str, Any]],
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> None:
    """Ask what a file does not answer yet, video by video, and append each answer as it comes.

    Args:
        answerer: A pipeline or a client.
        asked: Questions by video.
        videos: The file of each.
        path: The file of answers, as `find_answered` takes it with the next two.
        options: Of all questions.
        model: What the file calls the answerer.
        question_of: From a line to what it answers.
        query_of: The words of a question; None where its task has none.
        line_of: What a line says of a question and its answer beside times and model.
        on_video: Called with the number of each video, from 1, and the number of videos.
    """
    size = Limits().max_queries
    find_answered(path, question_of, model=model)  # opening it drops what has no end
    with open_lines(path) as file:
        answered = find_answered(path, question_of, model=model)
        for place, (video, questions) in enumerate(asked.items(), start=1):
            on_video(place, len(asked))
            left = [question for question in questions if question not in answered]
            for start in range(0, len(left), size):
                some = left[start : start + size]
                queries = [query for query in map(query_of, some) if query is not None]
                result = _ask_whole(answerer, videos[video], queries, options)
                lines = [
                    {
                        **line_of(question, answer, result),
                        "answer": answer.text,
                        "moments": [moment.to_json() for moment in answer.moments],
                        "duration_seconds": result.info.duration_seconds,
                        "model": model,
                    }
                    for question, answer in zip(some, result.answers, strict=True)
                ]
                append_lines(file, lines)


def _ask_whole(
    answerer: Answerer, video: Path, queries: Sequence[str], options: AnswerOptions
) -> AnswerResult:
    try:
        result = answerer.ask(video, queries, options)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{video}: {error}") from error
    if any(answer.stop_reason == "deadline" for answer in result.answers):
        raise DeadlineExceededError(
            f"{video}: time ran out amid an answer, which is not kept; allow more of it "
            "(GROUNDSERVE_MAX_REQUEST_SECONDS where the model runs) or fewer tokens"
        )
    return result
