"""The rows of a batch's folder: every file below it that ends in `.parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.exports.rows import ExportRow, FailedRow, ScoredFrames, scored_row
from groundserve.records.reading import as_read
from groundserve.spans import Span

_COLUMNS = (
    "id",
    "video",
    "query",
    "num_source_frames",
    "fps",
    "duration_seconds",
    "frame_indices",
    "pts_seconds",
    "frame_logits",
    "frame_scores",
    "selected_frames",
    "spans",
    "error_kind",
)
_PLAIN = {
    "id": str,
    "video": str,
    "query": str,
    "num_source_frames": int,
    "fps": float,
    "duration_seconds": float,
}
_INTEGERS = ("frame_indices", "selected_frames")
_NUMBERS = ("pts_seconds", "frame_logits", "frame_scores")
_ROWS_TOGETHER = 64
"""At 512 frames a row some 800 kB."""


def read_batch(folder: Path) -> Iterator[ExportRow | FailedRow]:
    """Yield the rows of all files, by the files' names.

    Raises:
        InvalidRequestError: There is no such file, or one is no Parquet of a batch.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("batch", "pyarrow") from error
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise InvalidRequestError(
            f"{folder} holds no *.parquet: it is not the folder of a batch, or none of its rows "
            "is done"
        )
    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
                if missing:
                    raise InvalidRequestError(
                        f"{path}: not the output of a batch, it has no column {missing[0]}"
                    )
                _require_lists(file.schema_arrow, path)
                number = 0
                for rows in file.iter_batches(_ROWS_TOGETHER, columns=list(_COLUMNS)):
                    for i in range(rows.num_rows):
                        number += 1
                        values = {name: rows.column(name)[i] for name in _COLUMNS}
                        yield _row(values, f"{path}, row {number}")
        except (pyarrow.ArrowException, OSError) as error:
            raise InvalidRequestError(f"cannot read {path}: {error}") from error


def _require_lists(schema: Any, path: Path) -> None:
    """Refuse columns that are not lists of numbers, as the file of another program has them."""
    from pyarrow import types

    for name in (*_INTEGERS, *_NUMBERS):
        kind = schema.field(name).type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        is_of = types.is_integer if name in _INTEGERS else types.is_floating
        if not is_list or not is_of(kind.value_type):
            what = "whole numbers" if name in _INTEGERS else "floats"
            raise InvalidRequestError(f"{path}: {name} must hold lists of {what}, is {kind}")


def _row(values: dict[str, Any], place: str) -> ExportRow | FailedRow:
    """Turn Arrow scalars into a row."""
    kind = values["error_kind"].as_py()
    if kind is not None:
        return FailedRow(kind=kind)
    # An empty list is one too: a family that answers in text ranks nothing.
    if not values["frame_logits"].is_valid or not len(values["frame_logits"].values):
        raise InvalidRequestError(
            f"{place}: the row has no frame scores, as of a family that answers in text; an export "
            "hands frames over"
        )
    for name, kind in _PLAIN.items():
        value = values[name].as_py()
        if not isinstance(value, kind):
            raise InvalidRequestError(f"{place}: {name} must be {kind.__name__}, got {value!r}")
    for name in (*_INTEGERS, *_NUMBERS):
        if values[name].is_valid and values[name].values.null_count:
            raise InvalidRequestError(f"{place}: {name} must have no null among its numbers")
    try:
        spans = [
            Span(float(span["start_seconds"]), float(span["end_seconds"]), float(span["score"]))
            for span in values["spans"].as_py() or ()
        ]
    except (TypeError, KeyError, ValueError):
        raise InvalidRequestError(
            f"{place}: spans must have start_seconds, end_seconds and score each"
        ) from None
    scored = ScoredFrames(
        num_source_frames=values["num_source_frames"].as_py(),
        fps=values["fps"].as_py(),
        duration_seconds=values["duration_seconds"].as_py(),
        frame_indices=_array(values["frame_indices"], np.int64),
        pts_seconds=_array(values["pts_seconds"], np.float64),
        frame_logits=_array(values["frame_logits"], np.float32),
        frame_scores=_array(values["frame_scores"], np.float64),
        selected_frames=_array(values["selected_frames"], np.int64),
        spans=spans,
    )
    return scored_row(
        scored,
        place=place,
        id=as_read(values["id"].as_py()),
        video=values["video"].as_py(),
        query=values["query"].as_py(),
    )


def _array(scalar: Any, dtype: type[np.generic]) -> NDArray[Any]:
    if not scalar.is_valid:
        return np.empty(0, dtype)
    array: NDArray[Any] = scalar.values.to_numpy(zero_copy_only=False).astype(dtype)
    return array
