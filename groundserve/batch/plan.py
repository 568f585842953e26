"""What is left to do: the manifest's rows against what is done.

The rows lie in a temporary SQLite file, some 300 bytes and the texts of each, so that memory does
not grow with them.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Event
from typing import Any, NamedTuple, Self

from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import RowFailed, Started
from groundserve.batch.keys import Fingerprint, find_video, line_id, request_hash, row_key
from groundserve.batch.row import BadRow, Group, Row
from groundserve.batch.row_options import options_json, read_options, sampling_json
from groundserve.batch.temporary import no_room, open_temporary
from groundserve.errors import InvalidRequestError, MediaError, UnavailableError
from groundserve.limits import Limits
from groundserve.records.reading import as_read
from groundserve.runtime.closing import Closing
from groundserve.strict_json import shown

MAX_GROUP_ROWS = 2048
_BATCH_ROWS = 1024
_NUM_THREADS = 16
"""That look at videos: waiting for an object store is most of it, or hashing."""
_SCHEMA = """
CREATE TABLE videos (place TEXT PRIMARY KEY, identity TEXT, kind TEXT, message TEXT) WITHOUT ROWID;
CREATE TABLE groups (number INTEGER PRIMARY KEY, identity TEXT, sampling TEXT,
                     UNIQUE (identity, sampling));
CREATE TABLE rows (position INTEGER PRIMARY KEY, id TEXT, name TEXT UNIQUE, is_named INTEGER,
                   row_key TEXT, request TEXT, video TEXT, place TEXT, query TEXT, options TEXT,
                   group_number INTEGER, state TEXT, tries INTEGER DEFAULT 0, kind TEXT,
                   message TEXT);
CREATE INDEX rows_by_group ON rows (group_number, position) WHERE group_number IS NOT NULL;
CREATE TABLE done (id TEXT PRIMARY KEY, name TEXT, row_key TEXT, request TEXT) WITHOUT ROWID;
"""
_MARK_DONE = """
UPDATE rows SET state = 'done', kind = NULL, message = NULL FROM done
WHERE rows.name = done.name AND rows.id = done.id AND rows.row_key = done.row_key
"""
# The answer of a video that was removed, or cannot be looked at now, is kept. A row without an id
# of its own had its key for one, and has the hash of its request as long as there is no key.
_MARK_DONE_OF_GONE_VIDEOS = """
UPDATE rows SET state = 'done', id = done.id, name = done.name, row_key = done.row_key,
                kind = NULL, message = NULL FROM done
WHERE rows.row_key IS NULL AND rows.request = done.request
      AND rows.name IN (done.name, done.request)
"""
_NOT_IN_MANIFEST = """
SELECT id, request FROM done WHERE NOT EXISTS
    (SELECT 1 FROM rows WHERE rows.name = done.name AND rows.id = done.id AND state = 'done')
"""
_TO_DO = """
SELECT number, identity, id, row_key, video, place, query, options, position
FROM rows JOIN groups ON number = group_number
WHERE state = 'todo' ORDER BY group_number, position
"""


class DoneRow(NamedTuple):
    """A row that has an answer."""

    id: str
    row_key: str
    request: str
    """What `request_hash` gives for it."""


@dataclass(frozen=True)
class DoneShard:
    """The rows of one file of answers."""

    rows: list[DoneRow]
    set_aside: Callable[[str], None]
    """Called where they cannot be used, with the reason."""


class Plan(Closing):
    """The manifest's rows in a temporary file, with what is known of each; see `make`."""

    def __init__(self) -> None:
        self._db = open_temporary(_SCHEMA)
        self.num_repeated = 0
        """Rows without id that equal an earlier one in all that decides the result: left out."""
        self._is_over = Event()

    @classmethod
    def make(
        cls,
        rows: Iterable[Row | BadRow],
        *,
        fingerprint: Fingerprint,
        done: Iterable[DoneShard] = (),
        failures: Iterable[RowFailed] = (),
        max_attempts: int = 3,
    ) -> Self:
        """Read the rows, look at each video once, and match them with what is done.

        Args:
            rows: The manifest's.
            fingerprint: Has its part in each row's key.
            done: A file that has a row of another is set aside.
            failures: Those of earlier attempts, in order.
            max_attempts: How often a row is tried over all attempts, at least once.

        Raises:
            InvalidRequestError: An id stands in the manifest twice; or a row that is done is gone,
                or was edited, or its video has changed.
            GroundserveError: There is no room for the temporary file.
        """
        plan = cls()
        try:
            plan._db.execute("BEGIN")
            plan._add(rows, fingerprint)
            plan._mark_done(done)
            plan._mark_failures(failures, max_attempts)
            plan._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            plan.close()
            raise no_room("the plan", error) from error
        except BaseException:
            plan.close()
            raise
        return plan

    def started(self, *, workers: int = 0, manifest: str = "") -> Started:
        """Return how many rows are in which state, as an attempt tells it that begins."""
        by_state = dict(self._db.execute("SELECT state, count(*) FROM rows GROUP BY state"))
        (num_groups,) = self._db.execute(
            "SELECT count(DISTINCT group_number) FROM rows WHERE state = 'todo'"
        ).fetchone()
        return Started(
            num_rows=sum(by_state.values()),
            num_done=by_state.get("done", 0),
            num_failed=by_state.get("failed", 0),
            num_to_do=by_state.get("todo", 0),
            num_groups=num_groups,
            workers=workers,
            manifest=manifest,
            failures=self.failures_by_kind(),
        )

    def groups(self, *, max_rows: int = MAX_GROUP_ROWS) -> Iterator[Group]:
        """Yield what is to be done, videos in the order in which the manifest has them first.

        A video with more than `max_rows` rows has several groups.
        """
        read = lru_cache(maxsize=1024)(lambda text: read_options(json.loads(text)))
        found = self._db.execute(_TO_DO)
        for (_, identity), members in itertools.groupby(found, lambda it: it[:2]):
            while part := list(itertools.islice(members, max_rows)):
                rows = tuple(
                    Row(
                        id=row_id,
                        key=key,
                        video=video,
                        place=place,
                        query=query,
                        options=read(options),
                        position=position,
                    )
                    for _, _, row_id, key, video, place, query, options, position in part
                )
                yield Group(place=rows[0].place, identity=identity, rows=rows)

    def mark_failed(self, failures: Iterable[RowFailed]) -> None:
        """Note why rows have no answer in this attempt, for `errors`."""
        try:
            self._db.executemany(
                "UPDATE rows SET kind = ?, message = ? WHERE name = ? AND state = 'todo'",
                ((it.kind, it.message, _name_of(it.id)) for it in failures),
            )
        except sqlite3.OperationalError as error:
            raise no_room("the plan", error) from error

    def errors(self) -> Iterator[dict[str, Any]]:
        """Return the rows that are known to have no answer, as columns, in the manifest's order."""
        found = self._db.execute(
            "SELECT id, row_key, video, query, options, kind AS error_kind, "
            "message AS error_message FROM rows WHERE kind IS NOT NULL ORDER BY position"
        )
        names = [name for name, *_ in found.description]
        return (dict(zip(names, row, strict=True)) for row in found)

    def failures_by_kind(self) -> Mapping[str, int]:
        """Count `errors`."""
        return dict(
            self._db.execute(
                "SELECT kind, count(*) FROM rows WHERE kind IS NOT NULL GROUP BY kind ORDER BY kind"
            )
        )

    def position(self, row_id: str) -> int:
        """Return where a row stands in the manifest; KeyError where it does not."""
        found = "SELECT position FROM rows WHERE name = ?"
        for (position,) in self._db.execute(found, (_name_of(row_id),)):
            return int(position)
        raise KeyError(row_id)

    def close(self) -> None:
        """Delete the temporary file."""
        self._db.close()

    def _add(self, rows: Iterable[Row | BadRow], fingerprint: Fingerprint) -> None:
        source = iter(rows)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            while batch := list(itertools.islice(source, _BATCH_ROWS)):
                self._look_at(
                    {row.place for row in batch if isinstance(row, Row)},
                    threads,
                    hash_content=fingerprint.hash_content,
                )
                for row in batch:
                    if isinstance(row, BadRow):
                        self._add_bad(row)
                    else:
                        self._add_row(row, fingerprint)

    def _look_at(
        self, places: set[str], threads: ThreadPoolExecutor, *, hash_content: bool
    ) -> None:
        max_bytes = Limits().max_file_bytes
        known = "SELECT 1 FROM videos WHERE place = ?"
        new = sorted(it for it in places if not self._db.execute(known, (it,)).fetchone())

        def look(place: str) -> tuple[str | None, ...]:
            try:
                video = find_video(place, hash_content=hash_content, is_over=self._is_over)
            except MediaError as error:
                return place, None, str(ErrorKind.MISSING), str(error)
            except UnavailableError as error:
                return place, None, str(ErrorKind.UNAVAILABLE), str(error)
            if video.num_bytes <= max_bytes:
                return place, video.identity, None, None
            message = f"the video must have at most {max_bytes} bytes, got {video.num_bytes}"
            return place, video.identity, str(ErrorKind.TOO_LARGE), message

        try:
            self._db.executemany("INSERT INTO videos VALUES (?, ?, ?, ?)", threads.map(look, new))
        except BaseException:  # Ctrl-C, which would wait for videos that take minutes to read
            self._is_over.set()
            raise

    def _add_bad(self, row: BadRow) -> None:
        self._insert(
            position=row.position,
            id=row.id or line_id(row.position, row.video, row.query),
            is_named=bool(row.id),
            video=row.video,
            query=row.query,
            state="failed",
            kind=str(ErrorKind.INVALID_ROW),
            message=row.message,
        )

    def _add_row(self, row: Row, fingerprint: Fingerprint) -> None:
        identity, kind, message = self._db.execute(
            "SELECT identity, kind, message FROM videos WHERE place = ?", (row.place,)
        ).fetchone()
        key = None if identity is None else row_key(identity, row, fingerprint=fingerprint)
        options = options_json(row.options)
        request = request_hash(row.video, row.query, options)
        self._insert(
            position=row.position,
            id=row.id or key or request,
            is_named=bool(row.id),
            row_key=key,
            request=request,
            video=row.video,
            place=row.place,
            query=row.query,
            options=options,
            group_number=self._group(identity, sampling_json(row.options)) if key else None,
            state="todo" if kind is None else "failed",
            kind=kind,
            message=message,
        )

    def _group(self, *identity_and_sampling: str) -> int:
        insert = "INSERT INTO groups (identity, sampling) VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._db.execute(insert, identity_and_sampling)
        found = "SELECT number FROM groups WHERE identity = ? AND sampling = ?"
        (number,) = self._db.execute(found, identity_and_sampling).fetchone()
        return int(number)

    def _insert(self, **values: str | int | None) -> None:
        values["name"] = name = _name_of(str(values["id"]))
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        command = f"INSERT INTO rows ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        if self._db.execute(command, [*values.values()]).rowcount:
            return
        other, other_id, is_named = self._db.execute(
            "SELECT position, id, is_named FROM rows WHERE name = ?", (name,)
        ).fetchone()
        if not (values["is_named"] or is_named):
            self.num_repeated += 1
            return
        ids = " and ".join(sorted({shown(values["id"]), shown(other_id)}))
        alike = "" if other_id == values["id"] else " (readers of records take them for one)"
        raise InvalidRequestError(
            f"each row of the manifest must have its own id, got {ids}{alike} in row "
            f"{other + 1} and in row {int(values['position'] or 0) + 1}"
        )

    def _mark_done(self, shards: Iterable[DoneShard]) -> None:
        for shard in shards:
            self._db.execute("SAVEPOINT shard")
            try:
                self._db.executemany(
                    "INSERT INTO done VALUES (?, ?, ?, ?)",
                    ((it.id, _name_of(it.id), it.row_key, it.request) for it in shard.rows),
                )
            except sqlite3.IntegrityError:
                self._db.execute("ROLLBACK TO shard")
                shard.set_aside("rows of it are in another file, too")
            self._db.execute("RELEASE shard")
        self._db.execute(_MARK_DONE)
        self._db.execute(_MARK_DONE_OF_GONE_VIDEOS)
        for row_id, request in self._db.execute(_NOT_IN_MANIFEST):
            why = self._why_not_done(row_id, request)
            raise InvalidRequestError(
                f"the row {shown(row_id)} {why}; undo that, or score into another folder"
            )

    def _why_not_done(self, row_id: str, request: str) -> str:
        for condition, value in (
            ("id = ?", row_id),
            # Its id may have been its key, which follows from the video.
            ("NOT is_named AND request = ?", request),
        ):
            found = self._db.execute(
                f"SELECT position, request, video, kind, message FROM rows WHERE {condition}",
                (value,),
            ).fetchone()
            if found is not None:
                break
        else:
            return "was scored and is no longer in the manifest"
        position, asked, video, kind, message = found
        where = f"(row {position + 1} of the manifest) was scored"
        if asked != request:
            what = "another video, query or options"
            return f"{where} and now asks something else: {what}"
        if kind is not None:
            return f"{where}, and now: {message}"
        return (
            f"{where}, and its video {shown(video)} is another file since (its path, size, "
            "time of modification, or content)"
        )

    def _mark_failures(self, failures: Iterable[RowFailed], max_attempts: int) -> None:
        # A row whose video has changed since has another key, and has not been tried.
        self._db.executemany(
            "UPDATE rows SET tries = tries + 1, kind = ?, message = ? "
            "WHERE name = ? AND row_key = ? AND state = 'todo'",
            ((it.kind, it.message, _name_of(it.id), it.row_key) for it in failures),
        )
        self._db.execute(
            "UPDATE rows SET state = 'failed' WHERE state = 'todo' AND tries >= ?", (max_attempts,)
        )
        self._db.execute("UPDATE rows SET kind = NULL, message = NULL WHERE state = 'todo'")


def _name_of(row_id: str) -> str:
    """Return an id as readers of records take it: "012" is 12 to them."""
    return str(as_read(row_id))
