"""Asks a model what a file of answers lacks, and appends what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import DeadlineExceededError, InvalidRequestError
from groundserve.evaluation.line_file import append_lines, open_lines, read_ended_lines
from groundserve.limits import Limits
from groundserve.options import AnswerOptions, Task
from groundserve.scorer import Answerer
from groundserve.strict_json import shown

_Question = TypeVar("_Question")


@dataclass(frozen=True, kw_only=True)
class Asked(Generic[_Question]):
    """Questions about videos, and how a file keeps the answers to them."""

    task: Task
    questions: Mapping[str, Sequence[_Question]]
    """By video."""
    question_of: Callable[[Mapping[str, Any]], _Question]
    """From a line to what it answers; a ValueError says that it is no such line."""
    query_of: Callable[[_Question], str]
    """The words of a question, "" where its task has none; InvalidRequestError where they lack."""
    line_of: Callable[[_Question, Answer, AnswerResult], Mapping[str, Any]]
    """What a line says of a question and its answer beside times and model."""


def find_answered(path: Path, asked: Asked[_Question], *, model: str) -> set[_Question]:
    """Return what a file answers already, all by one model; one that is not there, nothing."""
    answered = set()
    for where, line in read_ended_lines(path):
        if line.get("model") != model:
            raise InvalidRequestError(
                f"{where}: answered by {shown(line.get('model'))} and not by {shown(model)}; name "
                "another file for this model's answers"
            )
        try:
            answered.add(asked.question_of(line))
        except ValueError as error:
            raise InvalidRequestError(f"{where}: {error}") from error
    return answered


def ask_left(
    answerer: Answerer,
    asked: Asked[_Question],
    videos: Mapping[str, Path],
    path: Path,
    *,
    model: str,
    max_new_tokens: int,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> None:
    """Ask what a file does not answer yet, video by video, and append each answer as it comes.

    Args:
        answerer: A pipeline or a client.
        asked: What is asked about the videos, and others.
        videos: The files.
        path: The file of answers.
        model: What the file calls the answerer.
        max_new_tokens: Of each answer.
        on_video: Called with the number of each video, from 1, and the number of videos.
    """
    size = Limits().max_queries
    options = AnswerOptions(task=asked.task, max_new_tokens=max_new_tokens)
    # All are looked at before one is asked.
    words = {one: asked.query_of(one) for video in videos for one in asked.questions[video]}
    find_answered(path, asked, model=model)  # opening it drops what has no end
    with open_lines(path) as file:
        answered = find_answered(path, asked, model=model)
        for place, (video, source) in enumerate(videos.items(), start=1):
            on_video(place, len(videos))
            left = [question for question in asked.questions[video] if question not in answered]
            for start in range(0, len(left), size):
                some = left[start : start + size]
                queries = [words[question] for question in some if words[question]]
                result = _ask_whole(answerer, source, queries, options)
                lines = [
                    {
                        **asked.line_of(question, answer, result),
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
