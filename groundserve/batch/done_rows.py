"""The rows that have an answer: out of all shards, each id once, and against a plan's rows."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from groundserve.batch.errors import no_room
from groundserve.batch.keys import request_hash
from groundserve.batch.shards import read_shard
from groundserve.batch.storage import Storage
from groundserve.errors import InvalidRequestError
from groundserve.records.reading import as_read
from groundserve.strict_json import shown


class DoneRow(NamedTuple):
    """A row that has an answer."""

    id: str
    row_key: str
    request: str


class DoneRows:
    """Rows in a temporary file, so that memory does not grow with them."""

    def __init__(self) -> None:
        self._db = open_temporary(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
            "CREATE TABLE done (id TEXT PRIMARY KEY, row_key TEXT, request TEXT) WITHOUT ROWID;"
        )

    def add(self, storage: Storage, name: str) -> str | None:
        """Take a shard's rows; return what is wrong where they cannot be used."""
        try:
            columns = ("id", "row_key", "video", "query", "options")
            rows = read_shard(storage, name, columns).to_pylist()
            done = [
                (
                    row["id"],
                    row["row_key"],
                    request_hash(row["video"], row["query"], row["options"]),
                )
                for row in rows
            ]
            with self._db:
                self._db.execute("BEGIN")
                self._db.executemany("INSERT INTO done VALUES (?, ?, ?)", done)
        except ValueError as error:
            return str(error)
        except sqlite3.IntegrityError:
            return "rows of it are in another file, too"
        except sqlite3.OperationalError as error:
            raise no_room("the rows that are done", error) from error
        return None

    def __iter__(self) -> Iterator[DoneRow]:
        return map(DoneRow._make, self._db.execute("SELECT id, row_key, request FROM done"))

    def close(self) -> None:
        """Delete the temporary file."""
        self._db.close()


def open_temporary(schema: str) -> sqlite3.Connection:
    """Make a database for as long as it is open; any thread may use it.

    Its file has no name: `schema` must set a `journal_mode` without files, OFF or MEMORY.
    """
    with tempfile.TemporaryDirectory(prefix="groundserve-") as place:
        database = sqlite3.connect(
            os.path.join(place, "rows"), isolation_level=None, check_same_thread=False
        )
        database.executescript(schema)
    return database


def mark_done(db: sqlite3.Connection, done: Iterable[DoneRow]) -> None:
    """Give the rows of a plan that have an answer that state."""
    for row in done:
        marked = db.execute(
            "UPDATE rows SET state = 'done', kind = NULL, message = NULL "
            "WHERE name = ? AND id = ? AND row_key = ?",
            (name_of(row.id), row.id, row.row_key),
        )
        if not marked.rowcount and not _is_done_and_video_gone(db, row):
            raise InvalidRequestError(_why_not_done(db, row))


def _is_done_and_video_gone(db: sqlite3.Connection, row: DoneRow) -> bool:
    """Keep the answer of a video that was removed, or cannot be looked at now."""
    for name in (name_of(row.id), name_of(row.request)):  # see `_add_row`
        for position, *request in db.execute(
            "SELECT position, video, query, options FROM rows "
            "WHERE name = ? AND row_key IS NULL AND options IS NOT NULL",
            (name,),
        ).fetchall():
            if request_hash(*request) == row.request:
                db.execute(
                    "UPDATE rows SET state = 'done', id = ?, name = ?, row_key = ?, "
                    "kind = NULL, message = NULL WHERE position = ?",
                    (row.id, name_of(row.id), row.row_key, position),
                )
                return True
    return False


def _why_not_done(db: sqlite3.Connection, row: DoneRow) -> str:
    advice = "undo that, or score into another folder"
    asked = "SELECT position, video, query, options, kind, message FROM rows WHERE "
    named = db.execute(asked + "name = ? AND id = ?", (name_of(row.id), row.id)).fetchone()
    if named is None:
        # Its id may have been its key, which follows from the video.
        for position, *request, kind, message in db.execute(
            asked + "NOT is_named AND options IS NOT NULL"
        ):
            if request_hash(*request) == row.request:
                named = (position, *request, kind, message)
                break
    if named is None:
        return f"the row {shown(row.id)} was scored and is no longer in the manifest; {advice}"
    position, *request, kind, message = named
    where = f"the row {shown(row.id)} (row {position + 1} of the manifest) was scored"
    if None in request or request_hash(*request) != row.request:
        return f"{where} and now asks something else: another video, query or options; {advice}"
    if kind is not None:
        return f"{where}, and now: {message}; {advice}"
    return (
        f"{where}, and its video {shown(request[0])} is another file since (its path, size, "
        f"time of modification, or content); {advice}"
    )


def name_of(row_id: str) -> str:
    """Return an id as readers of records take it: "012" is 12 to them."""
    return str(as_read(row_id))
