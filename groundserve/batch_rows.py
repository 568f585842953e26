"""Rows of a folder that `groundserve batch` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from groundserve import extras
from groundserve.errors import InvalidRequestError

_ROWS_TOGETHER = 64
"""At 512 frames a row some 800 kB."""


def batch_rows(folder: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield some columns of each row, as Arrow's scalars, with the words that errors name it by.

    The rows are those of every file below the folder that ends in `.parquet`, by the files' names.
    """
    pyarrow = extras.load("pyarrow", "batch")
    parquet = extras.load("pyarrow.parquet", "batch")
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise InvalidRequestError(
            f"{folder} holds no *.parquet: it is not the folder of a batch, or none of its rows "
            "is done"
        )
    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise InvalidRequestError(
                        f"{path}: not the output of a batch, it has no column {missing[0]}"
                    )
                number = 0
                for rows in file.iter_batches(_ROWS_TOGETHER, columns=list(columns)):
                    for i in range(rows.num_rows):
                        number += 1
                        values = {name: rows.column(name)[i] for name in columns}
                        yield f"{path}, row {number}", values
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidRequestError(f"cannot read {path}: {error}") from error
