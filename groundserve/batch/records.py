"""DIR/records.jsonl: the reference's line for each scored row, in the manifest's order.

Shards are in another order than the manifest, and all lines may be more than memory holds: they are
sorted in pieces, on disk, and the pieces merged.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from operator import itemgetter
from typing import IO, TypeAlias

from groundserve.batch.plan import Plan
from groundserve.batch.shards import scored_rows
from groundserve.batch.storage import Storage
from groundserve.records.reading import as_read
from groundserve.records.record import DocId, rank_frames

RECORDS_NAME = "records.jsonl"

_COLUMNS = ("id", "video", "query", "frame_indices", "frame_logits", "frame_scores")
_PIECE_BYTES = 128 * 2**20
_Line: TypeAlias = tuple[int, bytes]  # position in the manifest, JSON with its newline


def write_records(storage: Storage, plan: Plan, *, piece_bytes: int = _PIECE_BYTES) -> int:
    """Write the lines; memory is that of a shard and of one piece.

    Returns:
        Lines written: one for each row that has frame scores.
    """
    num_lines = 0
    # Where there is room for the lines twice: a system's place for such files may be in memory.
    folder = storage.place if storage.is_local else None
    with ExitStack() as stack, storage.writing(RECORDS_NAME) as file:
        pieces = [
            _spill(piece, stack.enter_context(tempfile.TemporaryFile(dir=folder)))
            for piece in _pieces(_lines(storage, plan), piece_bytes)
        ]
        for _, line in heapq.merge(*pieces, key=itemgetter(0)):
            file.write(line)
            num_lines += 1
    return num_lines


def _lines(storage: Storage, plan: Plan) -> Iterator[_Line]:
    for row_id, video, query, *arrays in scored_rows(storage, _COLUMNS):
        if not arrays[-1].is_valid:  # of a family that answers in text
            continue
        indices, logits, scores = (array.values.to_numpy() for array in arrays)
        record = rank_frames(
            logits,
            scores,
            indices,
            query=query.as_py(),
            video=video.as_py(),
            doc_id=_doc_id(row_id.as_py()),
        )
        yield plan.position(row_id.as_py()), record.to_json_line().encode() + b"\n"


def _doc_id(row_id: str) -> DocId:
    number = as_read(row_id)
    return number if str(number) == row_id else row_id  # "012" stays as it was given


def _pieces(lines: Iterable[_Line], piece_bytes: int) -> Iterator[list[_Line]]:
    piece: list[_Line] = []
    num_bytes = 0
    for line in lines:
        piece.append(line)
        num_bytes += len(line[1])
        if num_bytes >= piece_bytes:
            yield piece
            piece, num_bytes = [], 0
    yield piece


def _spill(piece: list[_Line], file: IO[bytes]) -> Iterator[_Line]:
    """Write lines to a file at once, sorted, and return what reads them back."""
    for position, line in sorted(piece):
        file.write(b"%d %b" % (position, line))
    file.seek(0)
    return map(_split, file)


def _split(text: bytes) -> _Line:
    position, _, line = text.partition(b" ")
    return int(position), line
