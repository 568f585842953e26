"""Shards: their columns, and that nothing of how a run went is in them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from groundserve.batch.plan import Plan
from groundserve.batch.shards import Unit, encode_rows, schema
from groundserve.options import ScoreOptions
from groundserve.spans import Span
from tests.unit.batch.making import ENGINE, FINGERPRINT, NUM_FRAMES, make_row, score


@pytest.fixture
def groups(tmp_path):
    """Two videos; of the second, rows that differ in what is selected, and one asked twice."""
    rows = []
    asked = [("b", "q", 2), ("a", "q", 2), ("a", "q", 9), ("a", "p", 2), ("a", "q", 2)]
    for position, (name, query, top_k) in enumerate(asked):
        video = tmp_path / f"{name}.mp4"
        video.write_bytes(name.encode())
        rows.append(make_row(video, query, id=f"r{position}", position=position, top_k=top_k))
    with Plan.make(rows, fingerprint=FINGERPRINT) as plan:
        return list(plan.groups())


def table_of(unit):
    return pa.parquet.read_table(pa.BufferReader(encode_rows(unit.rows)))


def scored(groups, **info):
    unit = Unit(0)
    for group in groups:
        for options, queries in group.calls(32):
            content = Path(group.place).read_bytes()
            unit.add(group, options, score(content, queries, options, **info))
    return unit


def test_each_row_has_its_answer(groups):
    table = table_of(scored(groups))
    assert table.schema.equals(schema())
    rows = sorted(table.to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == ["r0", "r1", "r2", "r3", "r4"]
    assert [len(row["selected_frames"]) for row in rows] == [2, 2, NUM_FRAMES, 2, 2]
    assert {**rows[1], "id": "r4"} == rows[4]
    for row, name in zip(rows, "baaaa", strict=True):
        expected = score(name.encode(), [row["query"]], ScoreOptions(**json.loads(row["options"])))
        (query,) = expected.queries
        assert row["video"] == f"{name}.mp4"
        assert row["frame_indices"] == expected.frame_indices.tolist()
        assert row["pts_seconds"] == expected.pts_seconds.tolist()
        # Bit by bit: 32-bit numbers are kept as such.
        assert np.array_equal(np.float32(row["frame_logits"]), query.frame_logits)
        assert np.array_equal(np.float32(row["frame_scores"]), query.frame_scores)
        assert row["selected_frames"] == query.selected_frames.tolist()
        assert row["selected_seconds"] == query.selected_seconds.tolist()
        assert [Span(**span) for span in row["spans"]] == query.spans
        assert json.loads(row["engine"]) == ENGINE
        assert (row["num_source_frames"], row["fps"], row["duration_seconds"]) == (50, 10.0, 5.0)
        nulls = ("answer", "moments", "error_kind", "error_message")
        assert [row[name] for name in nulls] == [None] * 4


def test_how_the_run_went_is_not_in_it(groups):
    other = {
        "timing_ms": {"decode": 99.0},
        "cache_hit": True,
        "decoders": ["dali"],
        "video_bytes": 7,
    }
    assert encode_rows(scored(groups).rows) == encode_rows(scored(groups, **other).rows)
