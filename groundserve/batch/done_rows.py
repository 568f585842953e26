"""The rows that have an answer, out of all shards, each id once."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator

from groundserve.batch.errors import no_room
from groundserve.batch.keys import request_hash
from groundserve.batch.planned import DoneRow
from groundserve.batch.shards import read_shard
from groundserve.batch.storage import Storage
from groundserve.batch.temporary_database import open_temporary


class DoneRows:
    """Rows in a temporary file, so that memory does not grow with them."""

    def __init__(self) -> None:
        self._db = open_temporary(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
            "CREATE TABLE done (id TEXT PRIMARY KEY, row_key TEXT, request TEXT) WITHOUT ROWID;"
        )

    def add(self, storage: Storage, name: str) -> str | None:
        """Take a shard's rows; return what is wrong where they cannot be used.

        Raises:
            GroundserveError: There is no room for the temporary file.
        """
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
            raise no_room("the rows that are done", tempfile.gettempdir(), error) from error
        return None

    def __iter__(self) -> Iterator[DoneRow]:
        return map(DoneRow._make, self._db.execute("SELECT id, row_key, request FROM done"))

    def close(self) -> None:
        """Delete the temporary file."""
        self._db.close()
