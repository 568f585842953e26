"""What is left to do: the manifest's rows against what is done.

The rows lie in a temporary SQLite file, some 300 bytes and the texts of each, so that memory does
not grow with them.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Event
from typing import Any, Self

from groundserve.batch.done_rows import DoneRow, mark_done, name_of, open_temporary
from groundserve.batch.errors import ErrorKind, no_room
from groundserve.batch.events import RowFailed
from groundserve.batch.keys import (
    Fingerprint,
    VideoFile,
    find_video,
    line_id,
    request_hash,
    row_key,
)
from groundserve.batch.row import BadRow, Row
from groundserve.batch.row_options import RowOptions, options_json, read_options, sampling_json
from groundserve.batch.units import Group, Unit, UnitSize, cut_units
from groundserve.errors import InvalidRequestError, MediaError, UnavailableError
from groundserve.limits import Limits
from groundserve.runtime.closing import Closing
from groundserve.strict_json import shown

_BATCH_ROWS = 1024
_NUM_THREADS = 16
"""That look at videos: waiting for an object store is most of it, or hashing."""
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -65536;
CREATE TABLE videos (place TEXT PRIMARY KEY, identity TEXT, num_bytes INTEGER, kind TEXT,
                     message TEXT) WITHOUT ROWID;
CREATE TABLE groups (number INTEGER PRIMARY KEY, identity TEXT, sampling TEXT, place TEXT,
                     num_bytes INTEGER, UNIQUE (identity, sampling));
CREATE TABLE rows (position INTEGER PRIMARY KEY, id TEXT, name TEXT UNIQUE, is_named INTEGER,
                   row_key TEXT, video TEXT, place TEXT, query TEXT, options TEXT,
                   group_number INTEGER, state TEXT, tries INTEGER DEFAULT 0, kind TEXT,
                   message TEXT);
CREATE INDEX rows_by_group ON rows (group_number, position) WHERE group_number IS NOT NULL;
"""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of a plan: `num_rows` is the sum of the four below it."""

    num_rows: int
    """All, each with an id of its own."""
    num_done: int
    """Have an answer from an earlier attempt."""
    num_invalid: int
    """Are not tried: broken lines, missing videos, files past the limit."""
    num_spent: int
    """Failed as often as they may."""
    num_to_do: int
    num_groups: int
    """Videos of those, each with its sampling options."""
    num_repeated: int
    """Rows without id that equal an earlier one in all that decides the result; they are left out.
    """

    @property
    def num_failed(self) -> int:
        """Rows that are not tried and have no answer."""
        return self.num_invalid + self.num_spent


class Plan(Closing):
    """The manifest's rows in a temporary file, with what is known of each; see `make`."""

    def __init__(self) -> None:
        # Whoever hands out units may do so in a thread of its own; SQLite keeps them apart.
        self._db = open_temporary(_SCHEMA)
        self._num_repeated = 0
        self._is_over = Event()

    @classmethod
    def make(
        cls,
        rows: Iterable[Row | BadRow],
        *,
        fingerprint: Fingerprint,
        done: Iterable[DoneRow] = (),
        failures: Iterable[RowFailed] = (),
        max_attempts: int = 3,
        limits: Limits | None = None,
    ) -> Self:
        """Read the rows, look at each video once, and match them with what is done.

        Args:
            rows: The manifest's.
            fingerprint: Has its part in each row's key.
            done: Rows that have an answer.
            failures: Those of earlier attempts, in order.
            max_attempts: How often a row is tried, at least 1, over all attempts.
            limits: Only `max_file_bytes` counts; the defaults where None.

        Raises:
            InvalidRequestError: An id stands in the manifest twice; or a row that is done is gone,
                or was edited, or its video has changed.
            GroundserveError: There is no room for the temporary file.
        """
        if max_attempts < 1:
            raise InvalidRequestError(f"max_attempts must be >= 1, got {max_attempts}")
        plan = cls()
        try:
            plan._db.execute("BEGIN")
            plan._add(rows, fingerprint, limits or Limits())
            mark_done(plan._db, done)
            plan._mark_failures(failures, max_attempts)
            plan._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            plan.close()
            raise no_room("the plan", error) from error
        except BaseException:
            plan.close()
            raise
        return plan

    @property
    def counts(self) -> Counts:
        """How many rows are in which state."""
        by_state = dict(self._db.execute("SELECT state, count(*) FROM rows GROUP BY state"))
        (num_groups,) = self._db.execute(
            "SELECT count(DISTINCT group_number) FROM rows WHERE state = 'todo'"
        ).fetchone()
        return Counts(
            num_rows=sum(by_state.values()),
            num_done=by_state.get("done", 0),
            num_invalid=by_state.get("invalid", 0),
            num_spent=by_state.get("spent", 0),
            num_to_do=by_state.get("todo", 0),
            num_groups=num_groups,
            num_repeated=self._num_repeated,
        )

    def units(self, size: UnitSize) -> Iterator[Unit]:
        """Yield what is to be done, videos in the order in which the manifest has them first."""
        return cut_units(self._groups(size.max_rows), size)

    def mark_failed(self, failures: Iterable[RowFailed]) -> None:
        """Note why rows have no answer in this attempt, for `errors`."""
        try:
            self._db.executemany(
                "UPDATE rows SET kind = ?, message = ? WHERE name = ? AND state = 'todo'",
                ((it.kind, it.message, name_of(it.id)) for it in failures),
            )
        except sqlite3.OperationalError as error:
            raise no_room("the plan", error) from error

    def errors(self) -> Iterator[dict[str, Any]]:
        """Return the rows that are known to have no answer, as columns, in the manifest's order."""
        found = self._db.execute(
            "SELECT id, row_key, video, query, options, kind AS error_kind, "
            "message AS error_message FROM rows WHERE kind IS NOT NULL AND state != 'done' "
            "ORDER BY position"
        )
        names = [name for name, *_ in found.description]
        return (dict(zip(names, row, strict=True)) for row in found)

    def failures_by_kind(self) -> Mapping[str, int]:
        """Count `errors`."""
        return dict(
            self._db.execute(
                "SELECT kind, count(*) FROM rows WHERE kind IS NOT NULL AND state != 'done' "
                "GROUP BY kind ORDER BY kind"
            )
        )

    def position(self, row_id: str) -> int:
        """Return where a row stands in the manifest."""
        found = self._db.execute("SELECT position FROM rows WHERE name = ?", (name_of(row_id),))
        for (position,) in found:
            return int(position)
        raise KeyError(row_id)

    def close(self) -> None:
        """Delete the temporary file."""
        self._db.close()

    def _add(self, rows: Iterable[Row | BadRow], fingerprint: Fingerprint, limits: Limits) -> None:
        source = iter(rows)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            while batch := list(itertools.islice(source, _BATCH_ROWS)):
                self._look_at(
                    {row.place for row in batch if isinstance(row, Row)},
                    threads,
                    hash_content=fingerprint.hash_content,
                    limits=limits,
                )
                for row in batch:
                    if isinstance(row, BadRow):
                        self._add_bad(row)
                    else:
                        self._add_row(row, options_json(row.options), fingerprint)

    def _look_at(
        self, places: set[str], threads: ThreadPoolExecutor, *, hash_content: bool, limits: Limits
    ) -> None:
        known = "SELECT 1 FROM videos WHERE place = ?"
        new = sorted(it for it in places if not self._db.execute(known, (it,)).fetchone())

        def look(place: str) -> tuple[str | int | None, ...]:
            try:
                video = find_video(place, hash_content=hash_content, is_over=self._is_over)
            except (MediaError, UnavailableError) as error:
                is_missing = isinstance(error, MediaError)
                kind = ErrorKind.MISSING if is_missing else ErrorKind.UNAVAILABLE
                return place, None, None, str(kind), str(error)
            return (place, video.identity, video.num_bytes, *_fault(video, limits))

        try:
            found = threads.map(look, new)
            self._db.executemany("INSERT INTO videos VALUES (?, ?, ?, ?, ?)", found)
        except BaseException:  # Ctrl-C, which would wait for videos that take minutes to read
            self._is_over.set()
            raise

    def _add_bad(self, row: BadRow) -> None:
        row_id = row.id or line_id(row.position, row.video, row.query)
        self._insert(
            position=row.position,
            id=row_id,
            is_named=bool(row.id),
            video=row.video,
            query=row.query,
            state="invalid",
            kind=str(ErrorKind.INVALID_ROW),
            message=row.message,
        )

    def _add_row(self, row: Row, options: str, fingerprint: Fingerprint) -> None:
        identity, num_bytes, kind, message = self._db.execute(
            "SELECT identity, num_bytes, kind, message FROM videos WHERE place = ?", (row.place,)
        ).fetchone()
        key = group = None
        if identity is not None:
            key = row_key(identity, row, fingerprint=fingerprint)
        if kind is None:
            group = self._group(row, identity, num_bytes)
        self._insert(
            position=row.position,
            id=row.id or key or request_hash(row.video, row.query, options),
            is_named=bool(row.id),
            row_key=key,
            video=row.video,
            place=row.place,
            query=row.query,
            options=options,
            group_number=group,
            state="todo" if kind is None else "invalid",
            kind=kind,
            message=message,
        )

    def _group(self, row: Row, identity: str, num_bytes: int) -> int:
        sampling = sampling_json(row.options)
        self._db.execute(
            "INSERT INTO groups (identity, sampling, place, num_bytes) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (identity, sampling, row.place, num_bytes),
        )
        (number,) = self._db.execute(
            "SELECT number FROM groups WHERE identity = ? AND sampling = ?", (identity, sampling)
        ).fetchone()
        return int(number)

    def _insert(self, **values: str | int | None) -> None:
        values["name"] = name = name_of(str(values["id"]))
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        command = f"INSERT INTO rows ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        if self._db.execute(command, [*values.values()]).rowcount:
            return
        other, other_id, is_named = self._db.execute(
            "SELECT position, id, is_named FROM rows WHERE name = ?", (name,)
        ).fetchone()
        if not (values["is_named"] or is_named):
            self._num_repeated += 1
            return
        ids = " and ".join(sorted({shown(values["id"]), shown(other_id)}))
        alike = "" if other_id == values["id"] else " (readers of records take them for one)"
        raise InvalidRequestError(
            f"each row of the manifest must have its own id, got {ids}{alike} in row "
            f"{other + 1} and in row {int(values['position'] or 0) + 1}"
        )

    def _mark_failures(self, failures: Iterable[RowFailed], max_attempts: int) -> None:
        # A row whose video has changed since has another key, and has not been tried.
        self._db.executemany(
            "UPDATE rows SET tries = tries + 1, kind = ?, message = ? "
            "WHERE name = ? AND row_key = ? AND state = 'todo'",
            ((it.kind, it.message, name_of(it.id), it.row_key) for it in failures),
        )
        self._db.execute(
            "UPDATE rows SET state = 'spent' WHERE state = 'todo' AND tries >= ?", (max_attempts,)
        )
        self._db.execute("UPDATE rows SET kind = NULL, message = NULL WHERE state = 'todo'")

    def _groups(self, max_rows: int) -> Iterator[Group]:
        read = lru_cache(maxsize=1024)(_read_options)
        found = self._db.execute(
            "SELECT number, groups.place, identity, num_bytes, id, row_key, video, rows.place, "
            "query, options, position FROM rows JOIN groups ON number = group_number "
            "WHERE state = 'todo' ORDER BY group_number, position"
        )
        for (_, place, identity, num_bytes), members in itertools.groupby(found, lambda it: it[:4]):
            while part := list(itertools.islice(members, max_rows)):
                yield Group(
                    place=place,
                    identity=identity,
                    num_bytes=num_bytes,
                    rows=tuple(
                        Row(
                            id=row_id,
                            video=video,
                            place=own_place,
                            query=query,
                            options=read(options),
                            position=position,
                        )
                        for *_, row_id, _, video, own_place, query, options, position in part
                    ),
                    keys=tuple(it[5] for it in part),
                )


def _fault(video: VideoFile, limits: Limits) -> tuple[str | None, str | None]:
    if video.num_bytes <= limits.max_file_bytes:
        return None, None
    return (
        str(ErrorKind.TOO_LARGE),
        f"the video must have at most {limits.max_file_bytes} bytes, got {video.num_bytes}",
    )


def _read_options(text: str) -> RowOptions:
    return read_options(json.loads(text))
