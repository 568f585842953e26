"""FRAMES/index.jsonl: a line for each image of a batch, made from the rows that have an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from groundserve.batch.frame_output import INDEX_NAME, FrameOutput, RowFrames
from groundserve.batch.shards import SCORES, SUFFIX
from groundserve.batch.storage import Storage, open_storage
from groundserve.results import QueryResult


def write_index(output: FrameOutput, rows: Iterable[RowFrames]) -> str:
    """Write the index of all images at once, in the order of the rows; no row is kept in memory.

    Returns:
        Its place: JSON Lines, one `FrameEntry` a line, by row, then time.
    """
    storage = open_storage(output.directory)
    storage.make()
    with storage.writing(INDEX_NAME) as file:
        for row in rows:
            for entry in row.entries(output):
                line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
                # An id or a video's name need not be UTF-8; escaped, it is JSON still.
                file.write(line.encode("utf-8", "backslashreplace"))
    return f"{storage.place}/{INDEX_NAME}"


def rows_with_frames(storage: Storage) -> Iterator[RowFrames]:
    """Yield each row of a run that has an answer, file by file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = ("frame_indices", "frame_logits", "frame_scores", "selected_frames")
    columns = ["id", "video", "query", *arrays, "selected_seconds"]
    for name in storage.names(SCORES):
        if not name.endswith(SUFFIX):
            continue
        file = pq.ParquetFile(pa.BufferReader(storage.read(f"{SCORES}/{name}")))
        for batch in file.iter_batches(columns=columns):
            for place in range(batch.num_rows):
                row = {column: batch.column(column)[place] for column in columns}
                found = {
                    column: row[column].values.to_numpy(zero_copy_only=False)
                    for column in (*arrays, "selected_seconds")
                    if row[column].is_valid  # a family that answers in text has none
                }
                if len(found) <= len(arrays):
                    continue
                query = QueryResult(
                    query=row["query"].as_py(),
                    frame_logits=found["frame_logits"],
                    frame_scores=found["frame_scores"],
                    selected_frames=found["selected_frames"],
                    selected_seconds=found["selected_seconds"],
                    spans=[],
                )
                yield RowFrames.of(
                    row["id"].as_py(), row["video"].as_py(), query, found["frame_indices"]
                )
