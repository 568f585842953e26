"""SQLite in a file without a name, which is gone with the process, however that ends."""

from __future__ import annotations

import os
import sqlite3
import tempfile


def open_temporary(schema: str, *, folder: str | None = None) -> sqlite3.Connection:
    """Make a database for as long as it is open; any thread may use it.

    Args:
        schema: SQL that makes its tables. It must set a `journal_mode` without files, OFF or
            MEMORY: those would have a name.
        folder: Where the file is; the system's place for such files where None.
    """
    with tempfile.TemporaryDirectory(prefix="groundserve-", dir=folder) as place:
        database = sqlite3.connect(
            os.path.join(place, "rows"), isolation_level=None, check_same_thread=False
        )
        database.executescript(schema)
    return database
