"""Asks a model what a file of answers lacks, and appends what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from groundserve.answers import AnswerResult
from groundserve.errors import DeadlineExceededError, InvalidRequestError
from groundserve.evaluation.line_file import parse_lines
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.scorer import Answerer
from groundserve.strict_json import shown

_Question = TypeVar("_Question")


def find_answered(
    path: Path, question_of: Callable[[Mapping[str, Any]], _Question], *, model: str
) -> set[_Question]:
    """Return what a file answers already, before anything is asked.

    Args:
        path: The file; one that is not there answers nothing. A last line that was cut short does
            not count.
        question_of: From a line to what it answers; a ValueError says that it is no such line.
        model: Whose answers they must be.

    Raises:
        InvalidRequestError: The file cannot be read, or a line is none of this model's.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    answered = set()
    for where, line in parse_lines(data[: data.rfind(b"\n") + 1], path):
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


_Item = TypeVar("_Item")


def batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Give items by as many as one request may ask."""
    size = Limits().max_queries
    for start in range(0, len(items), size):
        yield items[start : start + size]


def ask_whole(
    answerer: Answerer, video: Path, queries: Sequence[str], options: AnswerOptions
) -> AnswerResult:
    """Ask about a video, for answers that no deadline cut.

    Raises:
        InvalidRequestError: The video cannot be answered.
        DeadlineExceededError: An answer ended because time ran out.
    """
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
