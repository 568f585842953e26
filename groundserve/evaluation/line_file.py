"""Files of answers: lines of JSON, read and appended to by one process; a folder of a batch."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any

from groundserve.errors import InvalidRequestError, MissingExtraError, UnavailableError
from groundserve.strict_json import parse_object, shown

_COLUMNS = ("video", "query", "options", "duration_seconds", "moments", "error_kind")
_ROWS_TOGETHER = 1024


def read_lines(path: str | PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each line that is not blank, with the words that an error names it by.

    A file that is one JSON list of objects gives those.

    Raises:
        InvalidRequestError: The file cannot be read, or a line is no JSON object.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    yield from parse_lines(data, path)


def parse_lines(data: bytes, path: str | PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file's bytes as `read_lines` does."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"cannot read {path} as UTF-8 text") from error
    if text.lstrip().startswith("["):
        for number, value in enumerate(_parse(text, str(path))):
            where = f"{path}, entry {number}"
            yield where, _object(value, where)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _object(_parse(line, where), where)


def open_lines(path: Path) -> IO[bytes]:
    """Open a file to append to, locked, with no part of a line at its end.

    Raises:
        UnavailableError: Another process has it open.
    """
    file = path.open("ab+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UnavailableError(f"another process answers questions into {path}") from None
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        file.truncate(whole)
    return file


def append_lines(file: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines in one write."""
    file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    file.flush()
    os.fsync(file.fileno())


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where}: not JSON; was it cut short?") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{where}: must be an object, got {shown(value)}")
    return value


def read_batch_answers(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each answered row as a line with one answer, and the words that an error names it by.

    Raises:
        InvalidRequestError: There is no Parquet file, or one is not of a batch of answers in text.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("batch", "pyarrow") from error
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise InvalidRequestError(f"{folder} holds no *.parquet: it is not the folder of a batch")
    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
                if missing:
                    raise InvalidRequestError(
                        f"{path}: not the output of a batch, it has no column {missing[0]}"
                    )
                number = 0
                for rows in file.iter_batches(_ROWS_TOGETHER, columns=list(_COLUMNS)):
                    for row in rows.to_pylist():
                        number += 1
                        if row["error_kind"] is None:
                            where = f"{path}, row {number}"
                            yield where, _line(row, where)
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidRequestError(f"cannot read {path}: {error}") from error


def _line(row: dict[str, Any], where: str) -> dict[str, Any]:
    task = parse_object(row["options"] or "{}", f"{where}, options").get("task")
    if task is None:
        raise InvalidRequestError(f"{where}: the row has scores of frames, and no answer in text")
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
    return {
        "video": row["video"],
        "duration_seconds": row["duration_seconds"],
        "answers": [answer],
    }
