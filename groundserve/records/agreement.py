"""How two files agree, question by question: rankings of frames, or answers in text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.files import filled_lines
from groundserve.records.reading import Line, locked_lines
from groundserve.records.record import DocId
from groundserve.strict_json import is_finite_number, parse_object, shown


@dataclass(frozen=True, kw_only=True)
class _Counts:
    num_questions: int
    """Questions that are in both files."""
    num_only_in_first: int
    """Questions missing from the second file."""
    num_only_in_second: int
    """Questions missing from the first file."""


@dataclass(frozen=True, kw_only=True)
class Agreement(_Counts):
    """How two selectors agree over the questions both scored."""

    overlap_at_k: float
    """Mean share of the first K frames that are the same, in [0, 1]."""
    kendall_tau: float | None
    """Mean rank correlation of the frames both ranked; None where no pair of frames is shared."""
    num_repeated_in_first: int = 0
    """Lines of the first file left out: an earlier one has their `doc_id`."""
    num_repeated_in_second: int = 0
    """The same of the second file."""
    num_in_time_order: int = 0
    """Questions in both whose frames, two or more, increase in both files as selected frames do:
    their rank correlation is +1 whatever was ranked."""


@dataclass(frozen=True, kw_only=True)
class AnswerAgreement(_Counts):
    """How two models, or two engines of one, agree over the questions that both answered."""

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


class _Answer(NamedTuple):
    text: str
    token_ids: list[int]
    spans: list[tuple[float, float]]
    """Start and end of each moment, in seconds."""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Question = tuple[str, str, str]
"""What was asked: video, task, question."""


def compare_files(
    first: str | PathLike[str], second: str | PathLike[str], *, top_k: int
) -> Agreement:
    """Compare two files of records as `compare_records` does; count the lines not compared.

    Raises:
        InvalidRequestError: A file cannot be read, a line is no record, a file holds none, or one
            `doc_id` for two questions or videos, of which no reader would find the second; or as
            `compare_records`.
    """
    (a, num_repeated_a), (b, num_repeated_b) = map(_read_rankings, (first, second))
    return replace(
        compare_records(a, b, top_k=top_k),
        num_repeated_in_first=num_repeated_a,
        num_repeated_in_second=num_repeated_b,
    )


def compare_records(
    first: Mapping[DocId, list[int]], second: Mapping[DocId, list[int]], *, top_k: int
) -> Agreement:
    """Compare two sets of rankings, ordinals best first by `doc_id`.

    Where a question has fewer frames than K, all of them are compared.

    Raises:
        InvalidRequestError: K < 1, or no question is in both.
    """
    if top_k < 1:
        raise InvalidRequestError(f"top_k must be >= 1, got {top_k}")
    pairs = _pairs(first, second, "doc_id")
    overlaps = [
        len(set(a[:top_k]) & set(b[:top_k])) / max(1, min(top_k, max(len(a), len(b))))
        for a, b in pairs
    ]
    taus = [tau for a, b in pairs if (tau := kendall_tau(a, b)) is not None]
    return Agreement(
        num_questions=len(pairs),
        num_only_in_first=len(first) - len(pairs),
        num_only_in_second=len(second) - len(pairs),
        overlap_at_k=float(np.mean(overlaps)),
        kendall_tau=float(np.mean(taus)) if taus else None,
        num_in_time_order=sum(_is_in_time_order(a) and _is_in_time_order(b) for a, b in pairs),
    )


def kendall_tau(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Return the rank correlation of two orders over the items both hold, in [-1, 1].

    +1: same order, -1: reversed. None where fewer than two items are shared. A rank has no ties,
    so this is tau-a.
    """
    place = {item: rank for rank, item in enumerate(second)}
    ranks: NDArray[np.int64] = np.array([place[item] for item in first if item in place])
    n = len(ranks)
    if n < 2:
        return None
    # A row of all pairs at a time: other selectors rank every frame of a video, 100,000 an hour.
    concordant_minus_discordant = sum(
        int(np.sign(ranks[i:] - rank).sum()) for i, rank in enumerate(ranks, start=1)
    )
    return concordant_minus_discordant / (n * (n - 1) / 2)


def compare_answer_files(
    first: str | PathLike[str], second: str | PathLike[str]
) -> AnswerAgreement:
    """Compare two files of lines that `ask --json` prints, paired by video, task and question.

    Raises:
        InvalidRequestError: A file cannot be read, a line is none, or no question is in both.
    """
    (a, num_repeated_a), (b, num_repeated_b) = map(_read_answers, (first, second))
    pairs = _pairs(a, b, "video, task and query")
    ious = [iou for one, other in pairs if (iou := _time_iou(one.spans, other.spans)) is not None]
    return AnswerAgreement(
        num_questions=len(pairs),
        num_only_in_first=len(a) - len(pairs),
        num_only_in_second=len(b) - len(pairs),
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
        first = next(filled_lines(path), None) if Path(path).is_file() else None
        return first is not None and "answers" in parse_object(first[1], "a line")
    except InvalidRequestError:  # whoever reads all lines says so
        return False


def _pairs(
    first: Mapping[_Key, _Value], second: Mapping[_Key, _Value], name: str
) -> list[tuple[_Value, _Value]]:
    """Return what both have of each key; `name` is what errors call one."""
    pairs = [(first[key], second[key]) for key in first if key in second]
    if not pairs:
        examples = [shown(next(iter(side), None)) for side in (first, second)]
        raise InvalidRequestError(
            f"the two files share no {name}: {examples[0]} is one of the first, {examples[1]} of "
            "the second"
        )
    return pairs


def _read_rankings(path: str | PathLike[str]) -> tuple[dict[DocId, list[int]], int]:
    """Return the first ranking of each id, and how many lines there are beside those."""
    first: dict[DocId, Line] = {}
    num_lines = 0
    for line in locked_lines(path):
        num_lines += 1
        earlier = first.setdefault(line.doc_id, line)
        for name in ("video_path", "contexts"):
            values = [it.fields[name] for it in (earlier, line) if name in it.fields]
            if len(values) == 2 and values[0] != values[1]:
                raise InvalidRequestError(
                    f"{path}, line {line.number}: doc_id {shown(line.doc_id)} stands for "
                    f"another question in line {earlier.number} (their {name} differ); give "
                    "each an id of its own"
                )
    if not first:
        raise InvalidRequestError(f"{path} holds no records")
    return {doc_id: line.index for doc_id, line in first.items()}, num_lines - len(first)


def _read_answers(path: str | PathLike[str]) -> tuple[dict[_Question, _Answer], int]:
    """Return the first answer to each question, and how many there are beside those."""
    answers: dict[_Question, _Answer] = {}
    num_answers = 0
    for number, line in filled_lines(path):
        where = f"{path}, line {number}"
        values = parse_object(line, where)
        try:
            for key, answer in _parse_answers(values):
                num_answers += 1
                answers.setdefault(key, answer)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                f"{where}: not an answer as groundserve ask --json prints it"
            ) from error
    if not answers:
        raise InvalidRequestError(f"{path} holds no answers")
    return answers, num_answers - len(answers)


def _parse_answers(values: dict[str, Any]) -> Iterator[tuple[_Question, _Answer]]:
    for answer in values["answers"]:
        key = (values["video"], answer["task"], answer["query"])
        spans = [(moment["start"], moment["end"]) for moment in answer["moments"]]
        token_ids = [int(token) for token in answer["token_ids"]]
        if not all(isinstance(text, str) for text in (*key, answer["text"])):
            raise TypeError("a text is none")
        if not all(is_finite_number(seconds) for span in spans for seconds in span):
            raise TypeError("seconds are no numbers")
        yield key, _Answer(answer["text"], token_ids, spans)


def _is_in_time_order(index: Sequence[int]) -> bool:
    return len(index) > 1 and all(a < b for a, b in itertools.pairwise(index))


def _shared_start(one: _Answer, other: _Answer) -> float:
    longest = max(len(one.token_ids), len(other.token_ids))
    equal = [a == b for a, b in zip(one.token_ids, other.token_ids, strict=False)]
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
