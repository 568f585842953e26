"""SQLite files that last as long as they are open, for what may be more than memory holds."""

from __future__ import annotations

import os
import sqlite3
import tempfile

from groundserve.errors import GroundserveError


def open_temporary(schema: str, *, folder: str | None = None) -> sqlite3.Connection:
    """Make a database whose file has no name, and so goes with this process.

    Args:
        schema: SQL that makes its tables.
        folder: Where there is room for it; TMPDIR if None.
    """
    # What a kill may leave in a run's folder, the next attempt removes.
    with tempfile.TemporaryDirectory(".partial", prefix=".groundserve-", dir=folder) as place:
        database = sqlite3.connect(os.path.join(place, "rows"), isolation_level=None)
        # A journal on the disk would need the file's name.
        pragmas = "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;"
        database.executescript(f"{pragmas} PRAGMA cache_size = -65536; {schema}")
    return database


def no_room(what: str, error: Exception, *, folder: str | None = None) -> GroundserveError:
    """Return what to raise where such a file cannot grow."""
    if folder is not None:
        return GroundserveError(f"cannot keep {what} in {folder}: {error}")
    return GroundserveError(
        f"cannot keep {what} in {tempfile.gettempdir()}: {error}; "
        "TMPDIR names a place with more room"
    )
