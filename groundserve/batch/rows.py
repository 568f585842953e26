"""The rows of a manifest (JSON Lines, Parquet, CSV), read as a stream, or a folder's videos."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import IO, Any, cast

from groundserve.batch.storage import LOCAL_PROTOCOLS, check_scheme, scheme_of, split_place
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.limits import Limits
from groundserve.options import ScoreOptions, parse_options
from groundserve.strict_json import parse_object, shown

COLUMNS = ("id", "video", "query", "options")
"""Of a manifest; the first and the last may be missing."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm"),
    *(".avi", ".ts", ".mts", ".m2ts"),
)
"""Of the containers that are read."""
MAX_LINE_BYTES = 2**20
"""Of a line of JSON Lines; a file that is none may be one line of gigabytes."""

_OPTION_NAMES = tuple(field.name for field in fields(ScoreOptions))
_BATCH_ROWS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One question about one video."""

    id: str
    """As the manifest gives it; "" where it gives none. A planned row always has one."""
    video: str
    """As the manifest names it."""
    place: str
    """Where it is: an absolute path, or a URL of fsspec."""
    query: str
    """The question."""
    options: ScoreOptions
    """The row's own over the command's."""
    position: int
    """In the manifest, from 0; broken rows and blank lines count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A line of a manifest that is no request; it becomes a row of errors."""

    id: str
    """As `Row.id`."""
    video: str
    """As far as it could be read, else ""."""
    query: str
    """As far as it could be read, else ""."""
    message: str
    """Which rule it breaks."""
    position: int
    """As `Row.position`."""


_Parse = Callable[[Mapping[str, Any], int], Row | BadRow]


def read_manifest(
    place: str, *, defaults: ScoreOptions, limits: Limits | None = None
) -> Iterator[Row | BadRow]:
    """Yield the rows of a manifest in its order; memory is that of one batch of lines.

    Columns: `video` and `query`, and maybe `id` (text or a whole number; null is none) and
    `options` (an object or its JSON text, fields of `ScoreOptions`). Others are left out, except
    those with the name of an option, which belong into `options`. Relative videos start from the
    manifest's folder.

    Args:
        place: Path or fsspec URL ending in .jsonl, .parquet or .csv.
        defaults: Options where a row has none of its own.
        limits: Ceilings that a row must keep; the defaults where None.

    Raises:
        InvalidRequestError: At once: it cannot be read, has another ending, or lacks a column. Or
            later: it broke off while it was read.
        MissingExtraError: pyarrow or fsspec is not installed.
    """
    readers = {".jsonl": _read_jsonl, ".parquet": _read_parquet, ".csv": _read_csv}
    ending = posixpath.splitext(place)[1].lower()
    if ending not in readers:
        raise InvalidRequestError(
            f"a manifest must end in {', '.join(readers)}, got {shown(place)}; for a folder of "
            "videos give questions as well (--query)"
        )
    parse = _make_parse(_folder_of(place), defaults, limits or Limits())
    rows = readers[ending](place, parse)
    # Each reader checks the file as a whole before it yields this.
    next(rows)
    return cast("Iterator[Row | BadRow]", rows)


def rows_of_folder(
    folder: str, queries: Sequence[str], *, defaults: ScoreOptions
) -> Iterator[Row | BadRow]:
    """Yield each video file below a folder with each question, in an order that never changes.

    Args:
        folder: Path or fsspec URL. Files with an ending of `VIDEO_SUFFIXES` count; hidden ones and
            those of hidden folders do not. Rows name them by their path below it.
        queries: At least one, each once.
        defaults: Options of all rows.

    Raises:
        InvalidRequestError: It is no folder, or has no video; or a question is blank, not Unicode,
            or given twice.
    """
    if len(set(queries)) != len(queries) or not queries:
        raise InvalidRequestError("give one question or several, each once")
    for query in queries:
        _check_text("query", query)
    filesystem, path = split_place(folder)
    parse = _make_parse(path if filesystem is None else folder.rstrip("/"), defaults, Limits())
    names = _video_names(folder)
    first = next(names, None)
    if first is None:
        raise InvalidRequestError(
            f"{folder} has no video (a file that ends in {', '.join(VIDEO_SUFFIXES)})"
        )
    asked = ((name, query) for name in itertools.chain([first], names) for query in queries)
    return (
        parse({"video": name, "query": query}, position)
        for position, (name, query) in enumerate(asked)
    )


def _video_names(folder: str) -> Iterator[str]:
    filesystem, path = split_place(folder)
    if filesystem is None:
        if not os.path.isdir(path):
            raise InvalidRequestError(f"{folder} is no folder")
        yield from _local_names(path)
        return
    prefix = path.rstrip("/") + "/"
    for found in sorted(filesystem.find(path)):
        name = found.removeprefix(prefix)
        if name.lower().endswith(VIDEO_SUFFIXES) and not any(
            part.startswith(".") for part in name.split("/")
        ):
            yield name


def _local_names(path: str) -> Iterator[str]:
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."):
                yield os.path.relpath(os.path.join(parent, name), path)


def _read_jsonl(place: str, parse: _Parse) -> Iterator[Row | BadRow | None]:
    with _opened(place) as file:
        yield None
        for position in itertools.count():
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                yield _bad({}, position, f"a line must be at most {MAX_LINE_BYTES} bytes")
                continue
            if position == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            if not line.strip():
                continue
            try:
                values = parse_object(line, "a line")
            except InvalidRequestError as error:
                yield _bad({}, position, str(error))
                continue
            yield parse(values, position)


def _read_csv(place: str, parse: _Parse) -> Iterator[Row | BadRow | None]:
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
        _check_columns(place, header)
        yield None
        for position in itertools.count():
            try:
                cells = next(lines, None)
            except csv.Error as error:
                yield _bad({}, position, f"not CSV: {error}")
                continue
            if cells is None:
                return
            if not cells:
                continue
            values = dict(zip(header, cells, strict=False))
            if len(cells) != len(header):
                message = f"a line must have {len(header)} cells as the first, got {len(cells)}"
                yield _bad(values, position, message)
                continue
            # CSV has no null: an empty cell is one.
            yield parse({name: cell or None for name, cell in values.items()}, position)


def _read_parquet(place: str, parse: _Parse) -> Iterator[Row | BadRow | None]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("batch", "pyarrow") from error
    with _opened(place) as file:
        try:
            with pq.ParquetFile(file) as source:
                names = source.schema_arrow.names
                _check_columns(place, names)
                yield None
                position = itertools.count()
                columns = [name for name in COLUMNS if name in names]
                for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                    for values in batch.to_pylist():
                        given = values.get("options")
                        if isinstance(given, dict):  # a struct has all its fields in each row
                            given = {k: v for k, v in given.items() if v is not None}
                        yield parse({**values, "options": given}, next(position))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"cannot read {place} as Parquet: {error}") from error


def _opened(place: str) -> IO[bytes]:
    filesystem, path = split_place(place)
    try:
        if filesystem is None:
            return open(path, "rb")  # the caller's `with`
        return cast("IO[bytes]", filesystem.open(path, "rb"))
    except OSError as error:
        raise InvalidRequestError(f"cannot read {place}: {error.strerror or error}") from error


def _check_columns(place: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise InvalidRequestError(f"{place} has two columns of one name")
    for name in ("video", "query"):
        if name not in names:
            raise InvalidRequestError(
                f"{place} must have the columns video and query, got {', '.join(names) or 'none'}"
            )
    _check_no_option(names)


def _check_no_option(names: Sequence[str]) -> None:
    for name in names:
        if name in _OPTION_NAMES:
            raise InvalidRequestError(
                f"{name} is an option; put it into the column options, as "
                f'{{"{name}": ...}}, or give it to the command for all rows'
            )


def _make_parse(base: str, defaults: ScoreOptions, limits: Limits) -> _Parse:
    """Return what makes rows of fields; a row's options are made once for each text of them."""
    _check_unicode("the folder that videos start from", base)
    own = {name: value for name, value in asdict(defaults).items() if value is not None}

    @lru_cache(maxsize=1024)
    def merged(text: str) -> ScoreOptions:
        return parse_options(text, limits=limits)

    def options_of(value: object) -> ScoreOptions:
        if value is None or value == {}:
            return defaults
        if isinstance(value, str):
            value = parse_object(value, "options")
        if not isinstance(value, dict):
            raise InvalidRequestError(f"options must be an object, got {shown(value)}")
        try:
            return merged(json.dumps({**own, **value}))
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidRequestError):
                raise
            raise InvalidRequestError("options must hold texts and numbers") from error

    def parse(values: Mapping[str, Any], position: int) -> Row | BadRow:
        try:
            _check_no_option(list(values))
            video, query = values.get("video"), values.get("query")
            _check_text("video", video)
            _check_text("query", query)
            size = len(cast("str", query).encode())
            if size > limits.max_query_bytes:
                raise InvalidRequestError(
                    f"query must be at most {limits.max_query_bytes} bytes, got {size}"
                )
            return Row(
                id=_id_of(values.get("id")),
                video=cast("str", video),
                place=_resolve(cast("str", video), base),
                query=cast("str", query),
                options=options_of(values.get("options")),
                position=position,
            )
        except InvalidRequestError as error:
            return _bad(values, position, str(error))

    return parse


def _id_of(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequestError(f"id must be a text or a whole number, got {shown(value)}")
    if not value:
        raise InvalidRequestError("id must not be empty; leave it out, and the row gets one")
    _check_unicode("id", value)
    return value


def _bad(values: Mapping[str, Any], position: int, message: str) -> BadRow:
    try:
        row_id = _id_of(values.get("id"))
    except InvalidRequestError:
        row_id = ""
    video, query = (_readable(values.get(name)) for name in ("video", "query"))
    return BadRow(id=row_id, video=video, query=query, message=message, position=position)


def _readable(value: object) -> str:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def _check_text(name: str, value: object) -> None:
    if value is None:
        raise InvalidRequestError(f"{name} is missing")
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a text, got {shown(value)}")
    if not value.strip():
        raise InvalidRequestError(f"{name} must not be empty or blank")
    _check_unicode(name, value)


def _check_unicode(name: str, value: str) -> None:
    # JSON can spell half a surrogate pair; a name on the disk need not be UTF-8.
    try:
        value.encode()
    except UnicodeEncodeError as error:
        part = value[error.start : error.start + 1]
        raise InvalidRequestError(f"{name} must be Unicode text, got {part!r} in it") from None


def _resolve(video: str, base: str) -> str:
    if "\0" in video:
        raise InvalidRequestError("video must be a path without a zero byte")
    scheme = check_scheme(video)
    if scheme in LOCAL_PROTOCOLS:
        return split_place(video)[1]
    if scheme is not None:
        return video
    if scheme_of(base) is None:
        return os.path.abspath(os.path.join(base, video))
    if video.startswith("/"):
        return video
    root, _, path = base.partition("://")
    return f"{root}://{posixpath.normpath(posixpath.join(path, video))}"


def _folder_of(place: str) -> str:
    if scheme_of(place) in (None, *LOCAL_PROTOCOLS):
        return os.path.dirname(split_place(place)[1])
    return posixpath.dirname(place)
