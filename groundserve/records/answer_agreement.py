"""How the answers of two files agree, question by question."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import is_finite_number, parse_object, shown

Key = tuple[str, str, str]
"""What was asked: video, task, question."""


class AnswerLine(NamedTuple):
    """One answer of a file."""

    text: str
    token_ids: list[int]
    moments: list[tuple[float, float]]
    """Start and end, in seconds."""


@dataclass(frozen=True, kw_only=True)
class AnswerAgreement:
    """How two models, or two engines of one, agree over the questions that both answered."""

    num_questions: int
    num_only_in_first: int
    """Questions missing from the second file."""
    num_only_in_second: int
    """Questions missing from the first file."""
    num_repeated_in_first: int
    """Answers of the first file left out: an earlier one is to the same question."""
    num_repeated_in_second: int
    """The same of the second file."""
    same_text: float
    """Share of questions whose answers have equal texts, in [0, 1]."""
    same_tokens: float
    """Share of questions whose answers have equal tokens."""
    shared_start: float
    """Mean share of an answer's tokens, of the longer one's, before the first that differs."""
    time_iou: float | None
    """Mean over questions of the time that moments of both answers cover, over what those of either
    do; a moment that ends before it starts covers none. None where no answer covers any."""


def compare_answer_files(
    first: str | PathLike[str], second: str | PathLike[str]
) -> AnswerAgreement:
    """Compare two files of lines as `groundserve ask --json` prints them.

    Answers are paired by video, task and question.

    Raises:
        InvalidRequestError: A file cannot be read, a line is none, or no question is in both.
    """
    (a, num_repeated_a), (b, num_repeated_b) = map(_read, (first, second))
    shared = [key for key in a if key in b]
    if not shared:
        examples = [shown(list(next(iter(side), ()))) for side in (a, b)]
        raise InvalidRequestError(
            f"the two files share no question: {examples[0]} is one of the first, {examples[1]} of "
            "the second (video, task, query)"
        )
    pairs = [(a[key], b[key]) for key in shared]
    ious = [
        iou for one, other in pairs if (iou := _time_iou(one.moments, other.moments)) is not None
    ]
    return AnswerAgreement(
        num_questions=len(shared),
        num_only_in_first=len(a) - len(shared),
        num_only_in_second=len(b) - len(shared),
        num_repeated_in_first=num_repeated_a,
        num_repeated_in_second=num_repeated_b,
        same_text=float(np.mean([one.text == other.text for one, other in pairs])),
        same_tokens=float(np.mean([one.token_ids == other.token_ids for one, other in pairs])),
        shared_start=float(np.mean([_shared_start(*pair) for pair in pairs])),
        time_iou=float(np.mean(ious)) if ious else None,
    )


def holds_answers(path: str | PathLike[str]) -> bool:
    """Tell whether the first line of a file is an answer in text; a pipe is never looked into."""
    try:
        first = next(_lines(path), None) if Path(path).is_file() else None
        return first is not None and "answers" in parse_object(first[1], "a line")
    except InvalidRequestError:  # whoever reads all lines says so
        return False


def _read(path: str | PathLike[str]) -> tuple[dict[Key, AnswerLine], int]:
    """Return the first answer to each question, and how many there are beside those."""
    answers: dict[Key, AnswerLine] = {}
    num_answers = 0
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        values = parse_object(line, where)
        try:
            for key, answer in _parse(values):
                num_answers += 1
                answers.setdefault(key, answer)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                f"{where}: not an answer as groundserve ask --json prints it"
            ) from error
    if not answers:
        raise InvalidRequestError(f"{path} holds no answers")
    return answers, num_answers - len(answers)


def _lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _parse(values: dict[str, Any]) -> Iterator[tuple[Key, AnswerLine]]:
    for answer in values["answers"]:
        key = (values["video"], answer["task"], answer["query"])
        texts = (*key, answer["text"])
        spans = [(moment["start"], moment["end"]) for moment in answer["moments"]]
        token_ids = [int(token) for token in answer["token_ids"]]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is none")
        if not all(is_finite_number(seconds) for span in spans for seconds in span):
            raise TypeError("seconds are no numbers")
        yield key, AnswerLine(text=answer["text"], token_ids=token_ids, moments=spans)


def _shared_start(one: AnswerLine, other: AnswerLine) -> float:
    longest = max(len(one.token_ids), len(other.token_ids))
    pairs = zip(one.token_ids, other.token_ids, strict=False)
    equal = [a == b for a, b in pairs]
    return ([*equal, False].index(False) / longest) if longest else 1.0


def _time_iou(
    one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]
) -> float | None:
    """Return the time that both cover over the time that either does; None where neither does."""
    bounds = sorted({seconds for span in (*one, *other) for seconds in span})
    both = either = 0.0
    for start, end in itertools.pairwise(bounds):
        covered = [any(a <= start and end <= b for a, b in spans) for spans in (one, other)]
        both += all(covered) * (end - start)
        either += any(covered) * (end - start)
    return both / either if either else None
