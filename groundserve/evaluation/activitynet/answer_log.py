"""Answers about annotated videos: a reference's file, lines of `ask --json`, a batch's folder.

A line of the log is `{"video_id", "task", "query_id", "answer"}`; of a question for a moment also
`"info": {"sentence_id", "iou"}`. Lines that `ask_annotated` adds say in `moments` and
`duration_seconds` what times the answer tells, and in `model` who told them; without those the text
is read as one of VTimeLLM's.

What VTG-LLM generates is a JSON list of `{"vname", "generated_cap", "prompt"}`, with `query` and
`id` where a moment was asked for. What it reads of that is one JSON object: by video a list of
`{"timestamp": [start, end], "caption"}`, or by the query's id
`{"timestamp": [[start, end]], "query", "vid"}`.

Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py` and `metric.py`; gyxxyg/VTG-LLM ce13f3e,
`evaluate.py`, `utils/format_dvc.py` and `utils/format_tvg.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from groundserve.evaluation.asking import ask_left
from groundserve.evaluation.line_file import read_batch_answers, read_lines
from groundserve.evaluation.spans import Window
from groundserve.families.vtgllm.answer import find_span, read_events
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


@dataclass(frozen=True, kw_only=True)
class VtgAnswer:
    """One answer, with times in seconds."""

    video: str
    query: str = ""
    """What was looked for; empty of captions."""
    id: str | None = None
    events: tuple[tuple[Window, str], ...]
    """Times and captions; none where none can be read."""


def is_vtgllm(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry is one of VTG-LLM's files, as far as its form shows."""
    return "generated_cap" in entry or (
        bool(entry)
        and (
            all(isinstance(value, list) for value in entry.values())
            or all(isinstance(value, dict) and "timestamp" in value for value in entry.values())
        )
    )


def read_vtgllm(entry: Mapping[str, Any], task: LogTask) -> Iterator[VtgAnswer]:
    """Give the answers to a task of one entry that `is_vtgllm`."""
    if "generated_cap" in entry:
        if ("query" in entry) == (task == "grounding"):
            yield _generated(entry, task)
        return
    for name, value in entry.items():
        if isinstance(value, list) == (task == "captioning"):
            yield _captions(name, value) if isinstance(value, list) else _moment(name, value)


def _generated(entry: Mapping[str, Any], task: LogTask) -> VtgAnswer:
    video, text = entry.get("vname"), entry["generated_cap"]
    if not isinstance(video, str) or not isinstance(text, str):
        raise ValueError(
            f"vname and generated_cap must be texts, got {shown(video)} and {shown(text)}"
        )
    events: tuple[tuple[Window, str], ...]
    try:
        if task == "captioning":
            events = tuple(read_events(text))
        else:
            span = find_span(text)
            events = () if span is None else ((span, ""),)
    except ValueError:  # a number at which the reference fails
        events = ()
    query, given = entry.get("query", ""), entry.get("id")
    if not isinstance(query, str):
        raise ValueError(f"query must be a text, got {shown(query)}")
    return VtgAnswer(
        video=PurePath(video).stem,
        query=query,
        id=None if given is None else str(given),
        events=events,
    )


def _captions(video: str, value: list[Any]) -> VtgAnswer:
    events = []
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("caption"), str):
            raise ValueError(f"events of {video} must be objects with a timestamp and a caption")
        events.append((_window(one.get("timestamp"), video), one["caption"]))
    return VtgAnswer(video=PurePath(video).stem, events=tuple(events))


def _moment(query_id: str, value: Mapping[str, Any]) -> VtgAnswer:
    video, query, windows = value.get("vid"), value.get("query"), value["timestamp"]
    if not isinstance(video, str) or not isinstance(query, str) or not isinstance(windows, list):
        raise ValueError(f"query {query_id} must have texts vid and query, and a list timestamp")
    return VtgAnswer(
        video=PurePath(video).stem,
        query=query,
        id=query_id,
        events=tuple((_window(window, video), "") for window in windows[:1]),
    )


def _window(value: Any, video: str) -> Window:
    # Times of the reference's third form of captions stay texts.
    numbers = [_number(one) for one in value] if isinstance(value, list) else []
    if len(numbers) != 2 or not all(map(is_finite_number, numbers)):
        raise ValueError(f"a timestamp of {video} must be [start, end], got {shown(value)}")
    return numbers[0], numbers[1]


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None
