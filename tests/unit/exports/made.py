"""Scored questions made by hand, and the three kinds of source that hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

_SPAN = pyarrow.struct(
    [
        ("start_seconds", pyarrow.float64()),
        ("end_seconds", pyarrow.float64()),
        ("score", pyarrow.float64()),
    ]
)
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("row_key", pyarrow.string()),
        ("video", pyarrow.string()),
        ("query", pyarrow.string()),
        ("options", pyarrow.string()),
        ("num_source_frames", pyarrow.int64()),
        ("fps", pyarrow.float64()),
        ("duration_seconds", pyarrow.float64()),
        ("frame_indices", pyarrow.list_(pyarrow.int64())),
        ("pts_seconds", pyarrow.list_(pyarrow.float64())),
        ("frame_logits", pyarrow.list_(pyarrow.float32())),
        ("frame_scores", pyarrow.list_(pyarrow.float32())),
        ("selected_frames", pyarrow.list_(pyarrow.int64())),
        ("selected_seconds", pyarrow.list_(pyarrow.float64())),
        ("spans", pyarrow.list_(_SPAN)),
        ("engine", pyarrow.string()),
        ("answer", pyarrow.string()),
        ("error_kind", pyarrow.string()),
        ("error_message", pyarrow.string()),
    ]
)

BIKES: dict[str, Any] = {
    "id": "7",
    "video": "videos/bikes.mp4",
    "query": "Où est le vélo 🚲 ?",
    "num_source_frames": 100,
    "fps": 25.0,
    "duration_seconds": 4.0,
    # Rule B at one frame a second: every 25th.
    "frame_indices": [0, 25, 50, 75],
    "pts_seconds": [0.0, 1.0, 2.0, 3.0],
    # The second and the third are equal, so best first they are 25, 50, 0, 75.
    "frame_logits": [0.5, 2.0, 2.0, -1.0],
    "frame_scores": [0.625, 0.875, 0.875, 0.25],
    "selected_frames": [25, 50],
    "selected_seconds": [1.0, 2.0],
    "spans": [{"start_seconds": 0.0, "end_seconds": 3.0, "score": 0.875}],
}
TALK: dict[str, Any] = {
    "id": "2",
    "video": "videos/talk ü.mp4",
    "query": 'When is "yes" said?',
    "num_source_frames": 150,
    "fps": 30.0,
    "duration_seconds": 5.0,
    "frame_indices": [0, 30, 60, 90, 120],
    "pts_seconds": [0.0, 1.0, 2.0, 3.0, 4.0],
    # Best first: 120, 30, 0, 60, 90.
    "frame_logits": [0.25, 1.0, -0.5, -2.0, 3.0],
    "frame_scores": [0.5625, 0.75, 0.375, 0.125, 0.9375],
    "selected_frames": [30, 120],
    "selected_seconds": [1.0, 4.0],
    "spans": [
        {"start_seconds": 0.0, "end_seconds": 2.0, "score": 0.75},
        {"start_seconds": 4.0, "end_seconds": 5.0, "score": 0.9375},
    ],
}
FAILED: dict[str, Any] = {
    "id": "4",
    "video": "videos/gone.mp4",
    "query": "When?",
    "error_kind": "Missing",
    "error_message": "no such file",
}


def write_shard(path: Path, *rows: dict[str, Any]) -> Path:
    """Write rows as a batch does; what a row leaves out is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), SCHEMA), path)
    return path


def write_batch(folder: Path, *rows: dict[str, Any]) -> Path:
    """Write a run's folder: a shard a row, errors apart, in the order of a run of its own."""
    for number, row in enumerate(rows):
        place = "errors" if "error_kind" in row else "scores"
        write_shard(folder / place / f"part-{number:016x}.parquet", row)
    return folder


def write_records(path: Path, *rows: dict[str, Any]) -> Path:
    """Write the reference's records, ids as they are."""
    lines = []
    for row in rows:
        order = sorted(range(len(row["frame_logits"])), key=lambda i: -row["frame_logits"][i])
        record = {
            "index": [row["frame_indices"][i] for i in order],
            "logits": [round(row["frame_scores"][i], 2) for i in order],
            "num_frames": 1,
            "contexts": row["query"],
            "video_path": row["video"],
            "doc_id": row["id"],
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), "utf-8")
    return path


def answer_of(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return `score --json`'s answer to questions on the video of the first."""
    of_query = ("query", "frame_logits", "frame_scores", "selected_frames", "selected_seconds")
    of_video = (
        "video",
        "num_source_frames",
        "fps",
        "duration_seconds",
        "frame_indices",
        "pts_seconds",
    )
    queries = [
        {name: row[name] for name in of_query}
        | {"spans": [list(span.values()) for span in row["spans"]]}
        for row in rows
    ]
    return {name: rows[0][name] for name in of_video} | {"queries": queries, "engine": {}}


def write_answers(path: Path, *rows: dict[str, Any]) -> Path:
    """Write one answer a line, as a loop with `score --json >> FILE` does."""
    text = "".join(json.dumps(answer_of(row), ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, "utf-8")
    return path
