"""DIR/records.jsonl: the reference's line for each scored row, in the manifest's order.

Files of answers are in another order, and all lines may be more than memory holds: SQLite sorts
them on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from groundserve.batch.plan import Plan
from groundserve.batch.shards import scored_rows
from groundserve.batch.temporary import no_room, open_temporary
from groundserve.records.reading import as_read
from groundserve.records.record import rank_frames
from groundserve.storage import Storage

RECORDS_NAME = "records.jsonl"

_COLUMNS = ("id", "video", "query", "frame_indices", "frame_logits", "frame_scores")


def write_records(storage: Storage, plan: Plan) -> None:
    """Write a line for each row that has frame scores; memory is that of a file of answers."""
    # Where there is room for the lines twice: a system's place for such files may be in memory.
    folder = storage.place if storage.is_local else None
    lines = open_temporary(
        "CREATE TABLE lines (position INTEGER PRIMARY KEY, line BLOB)", folder=folder
    )
    try:
        lines.execute("BEGIN")
        lines.executemany("INSERT INTO lines VALUES (?, ?)", _lines(storage, plan))
        with storage.writing(RECORDS_NAME) as file:
            for (line,) in lines.execute("SELECT line FROM lines ORDER BY position"):
                file.write(line)
    except sqlite3.OperationalError as error:
        raise no_room("the records", error, folder=folder) from error
    finally:
        lines.close()


def _lines(storage: Storage, plan: Plan) -> Iterator[tuple[int, bytes]]:
    """Yield each line, and where it stands in the manifest."""
    for row_id, video, query, *arrays in scored_rows(storage, _COLUMNS):
        if not arrays[-1].is_valid:  # of a family that answers in text
            continue
        indices, logits, scores = (array.values.to_numpy() for array in arrays)
        name = row_id.as_py()
        number = as_read(name)
        record = rank_frames(
            logits,
            scores,
            indices,
            query=query.as_py(),
            video=video.as_py(),
            doc_id=number if str(number) == name else name,  # "012" stays as it was given
        )
        yield plan.position(name), record.to_json_line().encode() + b"\n"
