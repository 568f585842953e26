"""Files of answers: lines of JSON, read and appended to by one process; a folder of a batch."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePath
from typing import IO, Any

from groundserve.batch_rows import batch_rows
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.files import append_whole, read_input
from groundserve.strict_json import parse_object, shown

Lines = Iterator[tuple[str, dict[str, Any]]]
"""JSON objects, each with the words that an error names it by."""

_COLUMNS = ("video", "query", "options", "duration_seconds", "moments", "error_kind")


def read_lines(path: str | PathLike[str]) -> Lines:
    """Give each line that is not blank; of a file that is one JSON list, its elements."""
    return _parse_lines(read_input(path), path)


def read_ended_lines(path: Path) -> Lines:
    """Read a file that another process may write: it may be missing, or lack its last line's end.

    A line without its end does not count.
    """
    data = read_input(path) if path.exists() else b""
    return _parse_lines(data[: data.rfind(b"\n") + 1], path)


def open_lines(path: Path) -> IO[bytes]:
    """Open a file to append to, locked, with no part of a line at its end."""
    file = path.open("ab+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UnavailableError(f"another process answers questions into {path}") from None
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    return file


def append_lines(file: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines, all of them or none; they are on the disk when this returns."""
    append_whole(file, b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def read_answer_lines(path: str | PathLike[str]) -> Lines:
    """Read a file as `read_lines` does; of a batch's folder each answered row, as a line."""
    path = Path(path)
    return _batch_lines(path) if path.is_dir() else read_lines(path)


def told_answers(line: Mapping[str, Any], task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the answers to a task of a line of `ask --json`, each with its video's name."""
    video, answers = line.get("video"), line["answers"]
    if not isinstance(video, str) or not isinstance(answers, list):
        raise ValueError("must have a text video and a list of answers")
    for answer in answers:
        if isinstance(answer, dict) and answer.get("task") == task:
            yield PurePath(video).stem, answer


def _parse_lines(data: bytes, path: str | PathLike[str]) -> Lines:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"cannot read {path} as UTF-8 text") from error
    if text.lstrip().startswith("["):
        for number, value in enumerate(_parse(text, str(path))):
            yield _named(value, f"{path}, entry {number}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield _named(_parse(line, where), where)


def _named(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{where}: must be an object, got {shown(value)}")
    return where, value


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where}: not JSON; was it cut short?") from error


def _batch_lines(folder: Path) -> Lines:
    for where, scalars in batch_rows(folder, _COLUMNS):
        row = {name: scalar.as_py() for name, scalar in scalars.items()}
        if row["error_kind"] is not None:
            continue
        task = parse_object(row["options"] or "{}", f"{where}, options").get("task")
        if task is None:
            raise InvalidRequestError(
                f"{where}: the row has scores of frames, and no answer in text"
            )
        moments = [
            {
                "start": moment["start_seconds"],
                "end": moment["end_seconds"],
                "score": moment["score"],
                "text": moment["text"],
            }
            for moment in row["moments"] or ()
        ]
        answer = {"query": row["query"] or "", "task": task, "moments": moments}
        kept = {name: row[name] for name in ("video", "duration_seconds")}
        yield where, {**kept, "answers": [answer]}
