"""One row of a manifest: what its fields may be."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from groundserve.batch.row_options import RowOptions, option_names, parse_row_options
from groundserve.errors import InvalidRequestError
from groundserve.families import check_asked
from groundserve.families.base import TextFamily
from groundserve.fetching import is_url, parse_url
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from groundserve.storage import LOCAL_PROTOCOLS, check_scheme, scheme_of, split_place
from groundserve.strict_json import parse_object, shown

COLUMNS = ("id", "video", "query", "options")
"""The first and the last may be missing in a manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One question about one video."""

    id: str
    """As the manifest gives it; "" where it gives none. A planned row always has one."""
    video: str
    place: str
    """Where it is: an absolute path, or a URL of fsspec."""
    query: str
    """The question; "" where the task takes none."""
    options: RowOptions
    """The row's own over the command's."""
    position: int
    """In the manifest, from 0; broken rows and blank lines count."""
    key: str = ""
    """A hash of all that decides its result, in a plan: rows of equal keys are scored once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A line of a manifest that is no request; it becomes a row of errors."""

    id: str
    video: str
    """As far as it could be read, else ""."""
    query: str
    """As far as it could be read, else ""."""
    message: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows of one video with equal sampling options: decoded and encoded once."""

    place: str
    """Where the video is: a path or an fsspec URL."""
    identity: str
    rows: tuple[Row, ...]
    """In the manifest's order; options that sample no frames may differ."""

    def calls(self, max_queries: int) -> Iterator[tuple[RowOptions, tuple[str, ...]]]:
        """Yield what to ask: options and at most `max_queries` distinct questions each."""
        asked: dict[RowOptions, dict[str, None]] = {}
        for row in self.rows:
            asked.setdefault(row.options, {})[row.query] = None
        for options, queries in asked.items():
            distinct = tuple(queries)
            for start in range(0, len(distinct), max_queries):
                yield options, distinct[start : start + max_queries]


class RowParser:
    """Makes rows of the fields of a manifest's lines."""

    columns: tuple[str, ...] = COLUMNS
    """What is read of a manifest that has columns."""

    def __init__(self, base: str, defaults: RowOptions) -> None:
        """`base` is the folder, or its URL, that relative videos start from."""
        _check_unicode("the folder that videos start from", base)
        self.kind = type(defaults)
        self._base = base
        self._defaults = defaults
        self._limits = Limits()
        self._read = lru_cache(maxsize=1024)(
            lambda text: parse_row_options(text, kind=self.kind, limits=self._limits)
        )

    def parse(self, values: Mapping[str, Any], position: int) -> Row | BadRow:
        """Return the row of a line's fields and of its position in the manifest."""
        try:
            check_no_option(list(values), kind=self.kind)
            video = check_text("video", values.get("video"))
            options = self._options(values.get("options"))
            query = values.get("query")
            if query in (None, "") and isinstance(options, AnswerOptions):
                query = ""  # which some tasks take: see `admit`
            else:
                query = check_text("query", query)
            size, most = len(query.encode()), self._limits.max_query_bytes
            if size > most:
                raise InvalidRequestError(f"query must be at most {most} bytes, got {size}")
            return Row(
                id=_id_of(values.get("id")),
                video=video,
                place=_resolve(video, self._base),
                query=query,
                options=options,
                position=position,
            )
        except InvalidRequestError as error:
            return bad_row(values, position, str(error))

    def _options(self, value: object) -> RowOptions:
        if value is None or value == {}:
            return self._defaults
        if isinstance(value, str):
            value = parse_object(value, "options")
        if not isinstance(value, dict):
            raise InvalidRequestError(f"options must be an object, got {shown(value)}")
        defaults = {k: v for k, v in asdict(self._defaults).items() if v is not None}
        try:
            text = json.dumps({**defaults, **value})
        except (TypeError, ValueError) as error:
            raise InvalidRequestError("options must hold texts and numbers") from error
        return self._read(text)


def admit(row: Row | BadRow, family: TextFamily[Any], manifest: str | None) -> Row | BadRow:
    """Return a row of a run of answers; as a broken one where the family cannot be asked it."""
    if isinstance(row, BadRow):
        return row
    assert isinstance(row.options, AnswerOptions), "those of a run are of one kind"
    try:
        check_asked(row.query, row.options, family)
    except InvalidRequestError as error:
        where = "" if manifest is None else f"{manifest}, row {row.position + 1}: "
        values = {"id": row.id or None, "video": row.video, "query": row.query}
        return bad_row(values, row.position, f"{where}{error}")
    return row


def _id_of(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequestError(f"id must be a text or a whole number, got {shown(value)}")
    if not value:
        raise InvalidRequestError("id must not be empty; leave it out, and the row gets one")
    return _check_unicode("id", value)


def bad_row(values: Mapping[str, Any], position: int, message: str) -> BadRow:
    """Return a row with an error, with what can be read of its fields."""
    try:
        row_id = _id_of(values.get("id"))
    except InvalidRequestError:
        row_id = ""
    video, query = (_readable(values.get(name)) for name in ("video", "query"))
    return BadRow(id=row_id, video=video, query=query, message=message, position=position)


def _readable(value: object) -> str:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else ""


def check_text(name: str, value: object) -> str:
    """Refuse what is no text with a word in it."""
    if value is None:
        raise InvalidRequestError(f"{name} is missing")
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a text, got {shown(value)}")
    if not value.strip():
        raise InvalidRequestError(f"{name} must not be empty or blank")
    return _check_unicode(name, value)


def _check_unicode(name: str, value: str) -> str:
    # JSON can spell half a surrogate pair; a name on the disk need not be UTF-8.
    try:
        value.encode()
        return value
    except UnicodeEncodeError as error:
        part = value[error.start : error.start + 1]
        raise InvalidRequestError(f"{name} must be Unicode text, got {part!r} in it") from None


def _resolve(video: str, base: str) -> str:
    if "\0" in video:
        raise InvalidRequestError("video must be a path without a zero byte")
    if is_url(video):
        parse_url(video)
        return video
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


def check_no_option(names: Sequence[str], *, kind: type[RowOptions]) -> None:
    """Refuse a column that would be taken for an option, and is none."""
    for name in names:
        if name in option_names(kind):
            raise InvalidRequestError(
                f"{name} is an option; put it into the column options, as "
                f'{{"{name}": ...}}, or give it to the command for all rows'
            )
