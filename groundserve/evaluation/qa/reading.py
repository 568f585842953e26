"""Files of records, JSON, JSON Lines or Parquet, and the videos that they name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.evaluation.line_file import read_lines
from groundserve.evaluation.qa.layouts import parse_question
from groundserve.evaluation.qa.question import Layout, Question
from groundserve.strict_json import shown

_VIDEO_SUFFIXES = ("", ".mp4", ".MP4", ".mkv")
"""What the reference tries of a video that is named without its ending."""


def read_questions(path: Path, *, layout: Layout) -> list[Question]:
    """Read a set of questions.

    Raises:
        InvalidRequestError: The file cannot be read, holds no record, a record lacks what its
            layout needs, or two have one id; the message names the record.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    questions: list[Question] = []
    places: dict[str, int] = {}
    for number, record in enumerate(_rows(path)):
        try:
            question = parse_question(record, number, layout=layout)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{path}, record {number}: {error}") from error
        first = places.setdefault(question.key, number)
        if first != number:
            raise InvalidRequestError(
                f"{path}, record {number}: its id {shown(question.key)} is that of record {first} "
                "too; each answer is kept by its question's id"
            )
        questions.append(question)
    if not questions:
        raise InvalidRequestError(f"{path} holds no records")
    return questions


def find_videos(
    questions: Iterable[Question], media_root: Path, *, skip_missing: bool = False
) -> dict[str, Path]:
    """Return the file of each video that a question names."""
    if not media_root.is_dir():
        raise InvalidRequestError(f"--media-root must be a folder, {media_root} is none")
    names = dict.fromkeys(question.video for question in questions)
    found, missing = {}, []
    for name in names:
        places = (media_root / f"{name}{suffix}" for suffix in _VIDEO_SUFFIXES)
        place = next((path for path in places if path.is_file()), None)
        if place is None:
            missing.append(name)
        else:
            found[name] = place
    if missing and not (skip_missing and found):
        skip = "" if skip_missing else ", and --skip-missing leaves out those that are not there"
        raise InvalidRequestError(
            f"{len(missing)} of {len(names)} videos are missing, the first is "
            f"{media_root / missing[0]}; --media-root is the folder that the records' videos "
            f"start from{skip}"
        )
    return found


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return [record for _, record in read_lines(path)]


def _parquet_rows(path: Path) -> list[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("train", "pyarrow") from error
    try:
        rows: list[Any] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidRequestError(f"cannot read {path} as Parquet") from error
    return rows
