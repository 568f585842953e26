"""Answers about annotated videos: a reference's file, lines of `ask --json`, a batch's folder.

A line of the log is `{"video_id", "task", "query_id", "answer"}`; of a question for a moment also
`"info": {"sentence_id", "iou"}`. Lines that `asking` adds say in `moments` and `duration_seconds`
what times the answer tells, and in `model` who told them; without those the text is read as one of
VTimeLLM's. Files of VTG-LLM are read by `groundserve.evaluation.activitynet.vtgllm_answers`.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py` and `metric.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, get_args

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
    read_moments,
    read_text,
)
from groundserve.evaluation.activitynet.batch_answers import read_batch_answers
from groundserve.evaluation.activitynet.vtgllm_answers import is_vtgllm, read_vtgllm
from groundserve.evaluation.line_file import read_lines
from groundserve.strict_json import is_finite_number, shown

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


def question_of(line: Mapping[str, Any]) -> tuple[str, LogTask, int]:
    """Return what a line of the log answers: video, task, and place of the sentence (captions: 0).

    Raises:
        ValueError: It is no line of the log.
    """
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
