"""Answers about annotated videos: a reference's file, lines of `ask --json`, a batch's folder.

A line of the log is `{"video_id", "task", "query_id", "answer"}`; of a question for a moment also
`"info": {"sentence_id", "iou"}`. Lines that `ask_annotated` adds say in `moments` and
`duration_seconds` what times the answer tells, and in `model` who told them; without those the text
is read as one of VTimeLLM's. `vtgllm_answers` reads files of VTG-LLM.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py` and `metric.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, get_args

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import (
    TASKS,
    Answers,
    Event,
    Grounding,
    LogTask,
    event_of,
    find_sentence,
    plain_sentence,
    read_moments,
    read_text,
)
from groundserve.evaluation.activitynet.moments import grounding_iou
from groundserve.evaluation.activitynet.vtgllm_answers import is_vtgllm, read_vtgllm
from groundserve.evaluation.asking import ask_left
from groundserve.evaluation.line_file import read_batch_answers, read_lines
from groundserve.options import AnswerOptions
from groundserve.scorer import Answerer
from groundserve.strict_json import is_finite_number, shown

REFERENCE_NEW_TOKENS = 1024
"""Most tokens of an answer in the reference's evaluation."""

_Question = tuple[str, LogTask, int]
_LOG_TASKS = {task: name for name, task in TASKS.items()}


def read_answers(
    path: str | PathLike[str], annotations: Mapping[str, Annotation], *, task: LogTask
) -> Answers:
    """Read the answers to one task; lines and answers of others are passed over.

    Args:
        path: Lines of the log, of `ask --json`, or of both; or the folder of a batch, or a file of
            VTG-LLM. The video of all but the log is named after its file, and the sentence is found
            by what was asked.
        annotations: Of `read_annotations`.
        task: Which answers.

    Raises:
        InvalidRequestError: The file cannot be read, a line is malformed, speaks of a video or
            a sentence that is not annotated, or there is no answer to this task.
    """
    groundings: list[Grounding] = []
    captions: dict[str, tuple[Event, ...] | None] = {}
    is_batch = os.path.isdir(path)
    for where, line in read_batch_answers(Path(path)) if is_batch else read_lines(path):
        try:
            for one in _answers(line, annotations, task):
                if isinstance(one, Grounding):
                    groundings.append(one)
                else:
                    captions[one[0]] = one[1]  # a later answer takes the place of an earlier one
        except ValueError as error:
            raise InvalidRequestError(f"{where}: {error}") from error
    if not groundings and not captions:
        raise InvalidRequestError(
            f"{path} holds no answer of the task {task} (in ask --json: {TASKS[task]})"
        )
    return Answers(groundings=tuple(groundings), captions=captions)


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
    """Ask for the moment of each sentence, or the captions of each video, that a log lacks.

    Arguments and errors are those of `ask_left`; a sentence without words is an error, too.
    """
    if task == "grounding":
        _require_words(annotations, videos)

    def line_of(question: _Question, answer: Answer, result: AnswerResult) -> dict[str, Any]:
        video, _, number = question
        line: dict[str, Any] = {"video_id": video, "task": task, "query_id": 0}
        if task == "grounding":
            moments = [moment.to_json() for moment in answer.moments]
            events = read_moments(moments, result.info.duration_seconds)
            iou = grounding_iou(events[0] if events else None, annotations[video], number)
            line["info"] = {"sentence_id": number, "iou": iou}
        return line

    def query_of(question: _Question) -> str | None:
        video, _, number = question
        return annotations[video].sentences[number] if task == "grounding" else None

    counts = {
        video: len(annotations[video].sentences) if task == "grounding" else 1 for video in videos
    }
    ask_left(
        answerer,
        {
            video: [(video, task, number) for number in range(count)]
            for video, count in counts.items()
        },
        videos,
        path,
        options=AnswerOptions(task=TASKS[task], max_new_tokens=max_new_tokens),
        model=model,
        question_of=question_of,
        query_of=query_of,
        line_of=line_of,
        on_video=on_video,
    )


def _require_words(annotations: Mapping[str, Annotation], videos: Mapping[str, Path]) -> None:
    for video in videos:
        for number, sentence in enumerate(annotations[video].sentences):
            if not plain_sentence(sentence):
                raise InvalidRequestError(
                    f"sentence {number} of the video {video} has no words: its moment cannot be "
                    "asked for"
                )


def question_of(line: Mapping[str, Any]) -> _Question:
    """Return video, task and place of the sentence (captions: 0) that a line of the log answers."""
    video, task = line.get("video_id"), line.get("task")
    if not isinstance(video, str) or task not in get_args(LogTask):
        raise ValueError(
            f"must have a text video_id and a task of {', '.join(get_args(LogTask))}, "
            f"got {shown(video)} and {shown(task)}"
        )
    if task == "captioning":
        return video, "captioning", 0
    info = line.get("info")
    number = info.get("sentence_id") if isinstance(info, dict) else None
    if type(number) is not int or number < 0:
        raise ValueError(f"info must have a sentence_id of 0 or more, got {shown(number)}")
    return video, "grounding", number


def _answers(
    line: Mapping[str, Any], annotations: Mapping[str, Annotation], task: LogTask
) -> Iterator[Grounding | tuple[str, tuple[Event, ...] | None]]:
    """Give the answers of one line to a task; captions with their video."""
    if "answers" in line:
        yield from _asked(line, annotations, task)
        return
    if is_vtgllm(line):
        yield from _of_vtgllm(line, annotations, task)
        return
    video, told, number = question_of(line)
    if told != task:
        return
    sentences = _annotation(video, annotations).sentences
    answer = line.get("answer")
    if not isinstance(answer, str):
        raise ValueError(f"answer must be a text, got {shown(answer)}")
    events = (
        read_moments(line["moments"], line.get("duration_seconds"))
        if "moments" in line
        else read_text(answer, task)
    )
    if task == "captioning":
        yield video, events
        return
    if number >= len(sentences):
        raise ValueError(
            f"sentence_id must be below the {len(sentences)} sentences of {video}, got {number}"
        )
    stated = line["info"].get("iou")
    yield Grounding(
        video=video,
        number=number,
        event=events[0] if events else None,
        stated_iou=stated if is_finite_number(stated) else None,
    )


def _asked(
    line: Mapping[str, Any], annotations: Mapping[str, Annotation], task: LogTask
) -> Iterator[Grounding | tuple[str, tuple[Event, ...] | None]]:
    """Give the answers of one line of `ask --json`."""
    answers = line["answers"]
    if not isinstance(line.get("video"), str) or not isinstance(answers, list):
        raise ValueError("must have a text video and a list of answers")
    video = PurePath(line["video"]).stem
    for answer in answers:
        if not isinstance(answer, dict) or answer.get("task") not in _LOG_TASKS:
            continue
        if _LOG_TASKS[answer["task"]] != task:
            continue
        annotation = _annotation(video, annotations)
        events = read_moments(answer.get("moments"), line.get("duration_seconds"))
        if task == "captioning":
            yield video, events
            continue
        query = answer.get("query")
        numbers = find_sentence(query, annotation) if isinstance(query, str) else []
        if not numbers:
            raise ValueError(f"no sentence of {video} reads {shown(query)}")
        for number in numbers:
            yield Grounding(video=video, number=number, event=events[0] if events else None)


def _of_vtgllm(
    entry: Mapping[str, Any], annotations: Mapping[str, Annotation], task: LogTask
) -> Iterator[Grounding | tuple[str, tuple[Event, ...] | None]]:
    """Give the answers of one entry of VTG-LLM's files."""
    for answer in read_vtgllm(entry, task):
        annotation = _annotation(answer.video, annotations)
        duration = annotation.duration_seconds
        events = tuple(event_of(window, duration, text) for window, text in answer.events)
        if task == "captioning":
            yield answer.video, events or None
            continue
        if answer.id in annotation.ids:
            numbers = [annotation.ids.index(answer.id)]
        else:
            numbers = find_sentence(answer.query, annotation)
        if not numbers:
            raise ValueError(f"no sentence of {answer.video} reads {shown(answer.query)}")
        for number in numbers:
            yield Grounding(video=answer.video, number=number, event=events[0] if events else None)


def _annotation(video: str, annotations: Mapping[str, Annotation]) -> Annotation:
    if video not in annotations:
        raise ValueError(f"the video {shown(video)} is not annotated")
    return annotations[video]
