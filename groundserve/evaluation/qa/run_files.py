"""The files of a run's folder, read; `RunFolder` writes them.

run.json          what decides the answers, and its fingerprint
questions.jsonl   of each question all but its texts
selections.jsonl  frames selected for a question, with the identity of the engine that did
answers.jsonl     an `Answer` a line, in the order they came
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.arms import Arm
from groundserve.evaluation.qa.question import Question
from groundserve.evaluation.qa.replies import Reply, Usage
from groundserve.strict_json import parse_object, shown

VERSION = 1
"""Raised whenever a folder of before cannot be gone on with."""
RUN, QUESTIONS = "run.json", "questions.jsonl"
ANSWERS, SELECTIONS = "answers.jsonl", "selections.jsonl"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question, asked with the frames of one arm, and what came back."""

    key: str
    arm: Arm
    reply: Reply
    frame_indices: tuple[int, ...]
    """Ordinals of the frames that were shown, increasing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a folder holds."""

    parts: dict[str, Any]
    questions: list[Question]
    """Without their texts."""
    answers: list[Answer]


def read_run(folder: Path) -> Run:
    """Read a run, finished or not, that another process may be writing.

    Raises:
        InvalidRequestError: It is no folder of a run.
    """
    parts = read_parts(folder)
    questions = [
        Question(
            key=line["key"],
            number=number,
            layout=parts["layout"],
            video=line["video"],
            text="",
            options=(),
            num_choices=line["num_choices"],
            answer=line["answer"],
            group=line["group"],
            spans=tuple((start, end) for start, end in line["spans"]),
        )
        for number, line in enumerate(_read_lines(folder / QUESTIONS))
    ]
    return Run(parts=parts, questions=questions, answers=read_answers(folder))


def read_parts(folder: Path) -> dict[str, Any]:
    """Return what decides the answers of a run, by name.

    Raises:
        InvalidRequestError: It is no folder of a run, or of another version's.
    """
    try:
        text = (folder / RUN).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{folder} is no folder of a run: {error.strerror}") from error
    run = parse_object(text, str(folder / RUN))
    parts = run.get("parts")
    if run.get("version") != VERSION or not isinstance(parts, dict):
        raise InvalidRequestError(
            f"{folder} is a run of version {shown(run.get('version'))}, this is {VERSION}; "
            "answer into a new folder"
        )
    return parts


def read_selections(folder: Path) -> tuple[dict[str, tuple[int, ...]], Any]:
    """Return the ordinals selected by question, and the identity of the engine that did.

    Raises:
        InvalidRequestError: A line is no selection; the message names it.
    """
    path = folder / SELECTIONS
    selections, engine = {}, None
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            selections[line["key"]] = tuple(line["frame_indices"])
            engine = line["engine"]
        except (KeyError, TypeError) as error:
            raise InvalidRequestError(f"{path}, line {number}: no selection of a run") from error
    return selections, engine


def read_answers(folder: Path) -> list[Answer]:
    """Return all answers, in the order they came.

    Raises:
        InvalidRequestError: A line is no answer, or a question's second from one arm.
    """
    path = folder / ANSWERS
    answers: dict[tuple[str, Arm], Answer] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        try:
            usage = line["usage"]
            answer = Answer(
                key=line["key"],
                arm=line["arm"],
                reply=Reply(
                    text=line["reply"],
                    is_refused=line["is_refused"],
                    finish_reason=line["finish_reason"],
                    usage=None if usage is None else Usage(**usage),
                    retries=tuple(line["retries"]),
                ),
                frame_indices=tuple(line["frame_indices"]),
            )
        except (KeyError, TypeError) as error:
            raise InvalidRequestError(f"{path}, line {number}: not an answer of a run") from error
        if answers.setdefault((answer.key, answer.arm), answer) is not answer:
            raise InvalidRequestError(
                f"{path}, line {number}: question {shown(answer.key)} is answered twice from "
                f"{answer.arm} frames; remove one of the lines"
            )
    return list(answers.values())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    data = path.read_bytes() if path.exists() else b""
    # A last line without its end was cut short, or is being written.
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        lines.append(parse_object(line, f"{path}, line {number}"))
    return lines
