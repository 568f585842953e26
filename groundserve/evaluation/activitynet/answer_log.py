"""Answers about annotated videos: a reference's file, lines of `ask --json`, a batch's folder.

A line of the log is `{"video_id", "task", "query_id", "answer"}`; of a question for a moment also
`"info": {"sentence_id", "iou"}`. Lines that a model adds say in `moments` and
`duration_seconds` what times the answer tells, and in `model` who told them; without those the text
is read as one of VTimeLLM's.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py` and `metric.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple, get_args

from groundserve.answers import Answer, AnswerResult
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.activitynet.annotations import Annotation
from groundserve.evaluation.activitynet.answers import (
    TASKS,
    Answers,
    Events,
    Grounding,
    LogTask,
    event_of,
    plain_sentence,
    read_moments,
    read_text,
)
from groundserve.evaluation.activitynet.moments import grounding_iou
from groundserve.evaluation.activitynet.vtgllm_files import is_vtgllm, read_vtgllm
from groundserve.evaluation.asking import Asked
from groundserve.evaluation.line_file import read_answer_lines, told_answers
from groundserve.strict_json import is_finite_number, shown

_Question = tuple[str, LogTask, int]


class _Told(NamedTuple):
    """One answer of a file."""

    video: str
    events: Events
    numbers: Sequence[int] = ()
    """Places of the sentences that a moment was asked for with."""
    stated_iou: float | None = None


def read_answers(
    path: str | PathLike[str], annotations: Mapping[str, Annotation], *, task: LogTask
) -> Answers:
    """Read the answers to one task; lines and answers of others are passed over.

    The path is lines of the log, of `ask --json`, or of both; or the folder of a batch, or a file
    of VTG-LLM. The video of all but the log is named after its file, and the sentence is found by
    what was asked.
    """
    groundings: list[Grounding] = []
    captions: dict[str, Events] = {}
    for where, line in read_answer_lines(path):
        try:
            for video, events, numbers, stated_iou in _answers(line, annotations, task):
                if task == "captioning":
                    captions[video] = events  # in the place of an earlier answer
                event = events[0] if events else None
                groundings += [
                    Grounding(video=video, number=number, event=event, stated_iou=stated_iou)
                    for number in numbers
                ]
        except ValueError as error:
            raise InvalidRequestError(f"{where}: {error}") from error
    if not groundings and not captions:
        raise InvalidRequestError(
            f"{path} holds no answer of the task {task} (in ask --json: {TASKS[task]})"
        )
    return Answers(groundings=tuple(groundings), captions=captions)


def annotated_questions(
    annotations: Mapping[str, Annotation], *, task: LogTask
) -> Asked[_Question]:
    """Return what to ask for the moment of each sentence, or the captions of each video."""
    is_grounding = task == "grounding"

    def query_of(question: _Question) -> str:
        video, _, number = question
        sentence = annotations[video].sentences[number] if is_grounding else ""
        if is_grounding and not plain_sentence(sentence):
            raise InvalidRequestError(
                f"sentence {number} of the video {video} has no words: its moment cannot be asked "
                "for"
            )
        return sentence

    def line_of(question: _Question, answer: Answer, result: AnswerResult) -> dict[str, Any]:
        video, _, number = question
        line: dict[str, Any] = {"video_id": video, "task": task, "query_id": 0}
        if is_grounding:
            moments = [moment.to_json() for moment in answer.moments]
            events = read_moments(moments, result.info.duration_seconds)
            iou = grounding_iou(events[0] if events else None, annotations[video], number)
            line["info"] = {"sentence_id": number, "iou": iou}
        return line

    return Asked(
        task=TASKS[task],
        questions={
            video: [(video, task, k) for k in range(len(one.sentences) if is_grounding else 1)]
            for video, one in annotations.items()
        },
        question_of=question_of,
        query_of=query_of,
        line_of=line_of,
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
) -> Iterator[_Told]:
    if "answers" in line:
        for video, answer in told_answers(line, TASKS[task]):
            annotation = _annotation(video, annotations)
            events = read_moments(answer.get("moments"), line.get("duration_seconds"))
            yield _Told(video, events, _numbers(answer.get("query"), video, annotation, task))
    elif is_vtgllm(line):
        for told in read_vtgllm(line, task):
            annotation = _annotation(told.video, annotations)
            duration = annotation.duration_seconds
            events = tuple(event_of(window, duration, text) for window, text in told.events)
            if told.id in annotation.ids:
                numbers: Sequence[int] = [annotation.ids.index(told.id)]
            else:
                numbers = _numbers(told.query, told.video, annotation, task)
            yield _Told(told.video, events or None, numbers)
    else:
        video, told_task, number = question_of(line)
        if told_task == task:
            yield _logged(line, video, number, annotations, task)


def _logged(
    line: Mapping[str, Any],
    video: str,
    number: int,
    annotations: Mapping[str, Annotation],
    task: LogTask,
) -> _Told:
    sentences = _annotation(video, annotations).sentences
    answer = line.get("answer")
    if not isinstance(answer, str):
        raise ValueError(f"answer must be a text, got {shown(answer)}")
    if "moments" in line:
        events = read_moments(line["moments"], line.get("duration_seconds"))
    else:
        events = read_text(answer, task)
    if task == "captioning":
        return _Told(video, events)
    if number >= len(sentences):
        raise ValueError(
            f"sentence_id must be below the {len(sentences)} sentences of {video}, got {number}"
        )
    stated = line["info"].get("iou")
    return _Told(video, events, [number], stated if is_finite_number(stated) else None)


def _annotation(video: str, annotations: Mapping[str, Annotation]) -> Annotation:
    if video not in annotations:
        raise ValueError(f"the video {shown(video)} is not annotated")
    return annotations[video]


def _numbers(query: Any, video: str, annotation: Annotation, task: LogTask) -> Sequence[int]:
    """Return the places of the sentences that a question for a moment was made of."""
    if task == "captioning":
        return ()
    asked = plain_sentence(query) if isinstance(query, str) else None
    sentences = map(plain_sentence, annotation.sentences)
    numbers = [number for number, sentence in enumerate(sentences) if sentence == asked]
    if not numbers:
        raise ValueError(f"no sentence of {video} reads {shown(query)}")
    return numbers
