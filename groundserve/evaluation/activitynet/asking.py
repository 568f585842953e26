"""Asks a model about annotated videos, and keeps what it answers in the reference's log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import InvalidRequestError
from groundserve.evaluation import asking
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answer_log import question_of
from groundserve.evaluation.activitynet.answers import TASKS, LogTask, plain_sentence, read_moments
from groundserve.evaluation.activitynet.moments import grounding_iou
from groundserve.evaluation.line_file import append_lines, open_lines
from groundserve.options import AnswerOptions
from groundserve.scorer import Answerer

REFERENCE_NEW_TOKENS = 1024
"""Most tokens of an answer in the reference's evaluation."""

_Question = tuple[str, LogTask, int]


def find_answered(path: Path, *, model: str) -> set[_Question]:
    """Return what a log answers already: see `groundserve.evaluation.asking.find_answered`."""
    return asking.find_answered(path, question_of, model=model)


def ask_annotated(
    answerer: Answerer,
    annotations: Mapping[str, Annotation],
    videos: Mapping[str, Path],
    path: Path,
    *,
    task: LogTask,
    model: str,
    max_new_tokens: int = REFERENCE_NEW_TOKENS,
    on_video: Callable[[int, int], None] = lambda number, total: None,
) -> None:
    """Ask what a log does not answer yet, video by video, and append each answer as it comes.

    Args:
        answerer: A pipeline or a client; used as it is, in greedy decoding.
        annotations: By video.
        videos: The files of those that are asked about.
        path: The log.
        task: What is asked: for each sentence its moment, or once a video its captions.
        model: What the log calls the answerer; it must have no other's answers.
        max_new_tokens: Of an answer.
        on_video: Called with the number of each video, from 1, and the number of videos.

    Raises:
        InvalidRequestError: As `find_answered`, a sentence is blank, or a video cannot be answered.
        UnavailableError: Another process appends to the log.
        DeadlineExceededError: An answer ended because time ran out; it is not kept.
    """
    if task == "grounding":
        _require_words(annotations, videos)
    find_answered(path, model=model)  # opening it drops what has no end: it must be this model's
    options = AnswerOptions(task=TASKS[task], max_new_tokens=max_new_tokens)
    with open_lines(path) as file:
        answered = find_answered(path, model=model)
        for place, (video, source) in enumerate(videos.items(), start=1):
            on_video(place, len(videos))
            count = len(annotations[video].sentences) if task == "grounding" else 1
            left = [number for number in range(count) if (video, task, number) not in answered]
            for numbers in asking.batches(left):
                queries = (
                    [annotations[video].sentences[number] for number in numbers]
                    if task == "grounding"
                    else ()
                )
                result = asking.ask_whole(answerer, source, queries, options)
                lines = [
                    _line(video, annotations[video], task, number, answer, result, model)
                    for number, answer in zip(numbers, result.answers, strict=True)
                ]
                append_lines(file, lines)


def _require_words(annotations: Mapping[str, Annotation], videos: Mapping[str, Path]) -> None:
    for video in videos:
        for number, sentence in enumerate(annotations[video].sentences):
            if not plain_sentence(sentence):
                raise InvalidRequestError(
                    f"sentence {number} of the video {video} has no words: its moment cannot be "
                    "asked for"
                )


def _line(
    video: str,
    annotation: Annotation,
    task: LogTask,
    number: int,
    answer: Answer,
    result: AnswerResult,
    model: str,
) -> dict[str, Any]:
    moments = [moment.to_json() for moment in answer.moments]
    duration_seconds = result.info.duration_seconds
    line: dict[str, Any] = {
        "video_id": video,
        "task": task,
        "query_id": 0,
        "answer": answer.text,
    }
    if task == "grounding":
        events = read_moments(moments, duration_seconds)
        iou = grounding_iou(events[0] if events else None, annotation, number)
        line["info"] = {"sentence_id": number, "iou": iou}
    return {**line, "duration_seconds": duration_seconds, "moments": moments, "model": model}
