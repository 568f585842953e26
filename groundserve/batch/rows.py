"""The rows of a manifest: JSON Lines, Parquet or CSV, read as a stream, or a folder and questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from groundserve.options import ScoreOptions


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
    """In the manifest, from 0; broken rows count."""


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


def check_manifest(place: str) -> None:
    """Refuse, before any work, a manifest that cannot be read as a whole.

    Raises:
        InvalidRequestError: It is missing, has another ending than .jsonl, .parquet and .csv, or
            lacks a column; the message names it.
        MissingExtraError: pyarrow or fsspec is not installed.
    """
    raise NotImplementedError


def read_manifest(place: str, *, defaults: ScoreOptions) -> Iterator[Row | BadRow]:
    """Yield the rows of a manifest in its order; memory is that of one batch of lines.

    Columns: `video` and `query`, and maybe `id` (text or a whole number; null is none) and
    `options` (an object or its JSON text, fields of `ScoreOptions`). Others are left out, except
    those with the name of an option, which belong into `options`.

    Args:
        place: Path or fsspec URL ending in .jsonl, .parquet or .csv.
        defaults: Options where a row has none of its own.

    Raises:
        InvalidRequestError: As `check_manifest`, or it broke off while it was read.
    """
    raise NotImplementedError


def rows_of_folder(
    folder: str, queries: Sequence[str], *, defaults: ScoreOptions
) -> Iterator[Row | BadRow]:
    """Yield each video file below a folder with each question, sorted by path.

    Args:
        folder: Path or fsspec URL. Files with an ending of `VIDEO_SUFFIXES` count; hidden ones and
            hidden folders do not.
        queries: At least one.
        defaults: Options of all rows.

    Raises:
        InvalidRequestError: It is no folder, or has no video.
    """
    raise NotImplementedError
