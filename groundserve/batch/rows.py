"""The rows of a manifest (JSON Lines, Parquet, CSV), read as a stream, or a folder's videos."""

from __future__ import annotations

import csv
import io
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any, cast

from groundserve import extras
from groundserve.batch.row import (
    COLUMNS,
    BadRow,
    Row,
    RowParser,
    admit,
    bad_row,
    check_no_option,
    check_text,
)
from groundserve.batch.row_options import RowOptions
from groundserve.errors import InvalidRequestError
from groundserve.options import ScoreOptions
from groundserve.storage import LOCAL_PROTOCOLS, scheme_of, split_place
from groundserve.strict_json import parse_object, shown

__all__ = ["COLUMNS", "VIDEO_SUFFIXES", "BadRow", "Row", "admit", "read_manifest", "rows_of_folder"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm"),
    *(".avi", ".ts", ".mts", ".m2ts"),
)
MAX_LINE_BYTES = 2**20
"""Longest line of JSON Lines; a file that is none may be one line of gigabytes."""

_BATCH_ROWS = 1024
_BLOCK_BYTES = 2**16
_SHOWN_CHARACTERS = 80


def read_manifest(
    place: str, *, defaults: RowOptions, parser: type[RowParser] = RowParser
) -> Iterator[Row | BadRow]:
    """Yield the rows of a manifest in its order; memory is that of one batch of lines.

    Columns: `video` and `query`, and maybe `id` (text or a whole number; null is none) and
    `options` (an object or its JSON text, fields of what `defaults` is). Others are left out,
    except those with the name of an option, which belong into `options`. `query` may be missing,
    null or empty in a run of answers: see `admit`. Relative videos start from the manifest's
    folder.

    Raises:
        InvalidRequestError: At once: it cannot be read, has another ending, or lacks a column. Or
            later: it broke off while it was read.
    """
    readers = {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}
    ending = posixpath.splitext(place)[1].lower()
    if ending not in readers:
        raise InvalidRequestError(
            f"a manifest must end in {', '.join(readers)}, got {shown(place)}; for a folder of "
            "videos give questions as well (--query)"
        )
    rows = readers[ending](place, parser(_folder_of(place), defaults))
    # Each reader checks the file as a whole before it yields this.
    next(rows)
    return cast("Iterator[Row | BadRow]", rows)


def rows_of_folder(
    folder: str, queries: Sequence[str], *, defaults: RowOptions
) -> Iterator[Row | BadRow]:
    """Yield each video file below a folder with each question, in an order that never changes.

    Files with an ending of `VIDEO_SUFFIXES` count; hidden ones and those of hidden folders do not.
    Rows name them by their path below the folder. `queries` are each there once; there may be none
    in a run of answers where the task takes none.

    Raises:
        InvalidRequestError: It is no folder, or has no video; or a question is blank, not Unicode,
            or given twice.
    """
    if len(set(queries)) != len(queries) or (not queries and isinstance(defaults, ScoreOptions)):
        raise InvalidRequestError("give one question or several, each once")
    for query in queries:
        check_text("query", query)
    filesystem, path = split_place(folder)
    parser = RowParser(path if filesystem is None else folder.rstrip("/"), defaults)
    names = _video_names(folder)
    first = next(names, None)
    if first is None:
        raise InvalidRequestError(
            f"{folder} has no video (a file that ends in {', '.join(VIDEO_SUFFIXES)})"
        )
    asked = ((name, query) for name in itertools.chain([first], names) for query in queries or [""])
    return (
        parser.parse({"video": name, "query": query}, position)
        for position, (name, query) in enumerate(asked)
    )


def _video_names(folder: str) -> Iterator[str]:
    filesystem, path = split_place(folder)
    if filesystem is None:
        if not os.path.isdir(path):
            raise InvalidRequestError(f"{folder} is no folder")
        names = _local_names(path)
    else:
        prefix = path.rstrip("/") + "/"
        names = (found.removeprefix(prefix) for found in sorted(filesystem.find(path)))
    for name in names:
        is_hidden = any(part.startswith(".") for part in name.split("/"))
        if name.lower().endswith(VIDEO_SUFFIXES) and not is_hidden:
            yield name


def _local_names(path: str) -> Iterator[str]:
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), path)


def _read_jsonl(place: str, parser: RowParser) -> Iterator[Row | BadRow | None]:
    with _opened(place) as file:
        yield None
        for position, line in enumerate(_lines(file)):
            if position == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            if not line.strip():
                continue
            try:
                if len(line) > MAX_LINE_BYTES:
                    raise InvalidRequestError(f"a line must be at most {MAX_LINE_BYTES} bytes")
                row = parser.parse(parse_object(line, "a line"), position)
            except InvalidRequestError as error:
                row = bad_row({}, position, str(error))
            text = line[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "backslashreplace").rstrip("\r")
            yield _located(row, f"{place}, line {position + 1}", text)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file; of one that is too long, the beginning.

    Not by `readline`, which takes no size in files of most object stores.
    """
    line = b""
    while block := file.read(_BLOCK_BYTES):
        *whole, rest = (line + block).split(b"\n")
        yield from whole
        line = rest[: MAX_LINE_BYTES + 1]
    yield line


def _located(row: Row | BadRow, where: str, text: str) -> Row | BadRow:
    """Say of a row with an error where it stands and how it begins."""
    if isinstance(row, Row):
        return row
    begins = text[:_SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    dots = "..." if len(text) > _SHOWN_CHARACTERS else ""
    return replace(row, message=f"{where}: {row.message}; it reads {begins}{dots}")


def _read_csv(place: str, parser: RowParser) -> Iterator[Row | BadRow | None]:
    with (
        _opened(place) as binary,
        # What is not UTF-8 becomes lone surrogates, which no row may have.
        io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        lines = csv.reader(file)
        try:
            header = next(lines, [])
        except csv.Error as error:
            raise InvalidRequestError(f"{place} is not CSV: {error}") from error
        _check_columns(place, header, parser.kind)
        yield None
        for position in itertools.count():
            first = lines.line_num + 1
            try:
                cells = next(lines, None)
            except csv.Error as error:
                # A quote that nothing closes takes the lines behind it, too.
                message = f"{place}, lines {first} to {lines.line_num}: not CSV: {error}"
                yield bad_row({}, position, message)
                continue
            if cells is None:
                return
            if not cells:
                continue
            # CSV has no null: an empty cell is one.
            values = {name: cell or None for name, cell in zip(header, cells, strict=False)}
            if len(cells) != len(header):
                message = f"a line must have {len(header)} cells as the first, got {len(cells)}"
                row: Row | BadRow = bad_row(values, position, message)
            else:
                row = parser.parse(values, position)
            yield _located(row, f"{place}, line {first}", ",".join(cells))


def _read_parquet(place: str, parser: RowParser) -> Iterator[Row | BadRow | None]:
    pa, pq = (extras.load(name, "batch") for name in ("pyarrow", "pyarrow.parquet"))
    with _opened(place) as file:
        try:
            with pq.ParquetFile(file) as source:
                names = source.schema_arrow.names
                _check_columns(place, names, parser.kind)
                yield None
                position = itertools.count()
                columns = [name for name in parser.columns if name in names]
                for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                    for values in _rows_of(batch):
                        given = values.get("options")
                        if isinstance(given, dict):  # a struct has all its fields in each row
                            given = {k: v for k, v in given.items() if v is not None}
                        row = parser.parse({**values, "options": given}, number := next(position))
                        yield _located(row, f"{place}, row {number + 1}", shown(values))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"cannot read {place} as Parquet: {error}") from error


def _rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    columns = [_cells_of(column) for column in batch.columns]
    for cells in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, cells, strict=True))


def _cells_of(column: Any) -> list[Any]:
    pa = extras.load("pyarrow", "batch")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return cast("list[Any]", column.to_pylist())
    # What is not UTF-8 becomes lone surrogates, which no row may have.
    cells = column.cast(pa.large_binary()).to_pylist()
    return [cell if cell is None else cell.decode("utf-8", "surrogateescape") for cell in cells]


def _opened(place: str) -> IO[bytes]:
    filesystem, path = split_place(place)
    try:
        if filesystem is None:
            return open(path, "rb")  # the caller's `with`
        return cast("IO[bytes]", filesystem.open(path, "rb"))
    except OSError as error:
        raise InvalidRequestError(f"cannot read {place}: {error.strerror or error}") from error


def _check_columns(place: str, names: Sequence[str], kind: type[RowOptions]) -> None:
    if len(set(names)) != len(names):
        raise InvalidRequestError(f"{place} has two columns of one name")
    needed = ("video", "query") if kind is ScoreOptions else ("video",)
    for name in needed:
        if name not in names:
            plural = "columns" if len(needed) > 1 else "column"
            raise InvalidRequestError(
                f"{place} must have the {plural} {' and '.join(needed)}, "
                f"got {', '.join(names) or 'none'}"
            )
    check_no_option(names, kind=kind)


def _folder_of(place: str) -> str:
    if scheme_of(place) in (None, *LOCAL_PROTOCOLS):
        return os.path.dirname(split_place(place)[1])
    return posixpath.dirname(place)
