"""The answers of a batch's folder, as lines of `ask --json` have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.strict_json import parse_object

_COLUMNS = ("video", "query", "options", "duration_seconds", "moments", "error_kind")
_ROWS_TOGETHER = 1024


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
