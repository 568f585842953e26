"""A plan's rows against those that have an answer: kept, or refused because they changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from groundserve.batch.keys import request_hash
from groundserve.batch.planned import DoneRow
from groundserve.errors import InvalidRequestError
from groundserve.records.reading import as_read
from groundserve.strict_json import shown


def mark_done(db: sqlite3.Connection, done: Iterable[DoneRow]) -> None:
    """Give the rows of a plan that have an answer that state.

    Raises:
        InvalidRequestError: A row that has one is gone, or was edited, or its video has changed.
    """
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
