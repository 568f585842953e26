import json

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from groundserve.records import (
    append_records,
    compare_records,
    kendall_tau,
    make_record,
    read_records,
)
from groundserve.results import ScoreResult, build_query_results
from groundserve.selection import sigmoid


def make_result():
    indices = np.array([0, 25, 50, 75])
    logits = np.array([[0.5, 2.0, 2.0, -1.0]], np.float32)
    return ScoreResult(
        video="bikes.mp4",
        num_source_frames=100,
        fps=25.0,
        duration_seconds=4.0,
        frame_indices=indices,
        pts_seconds=indices / 25,
        num_frames=512,
        grid=5,
        queries=build_query_results(
            ["Où est le vélo ?"],
            frame_logits=logits,
            frame_scores=sigmoid(logits),
            selected_frames=np.array([[25, 50]]),
            frame_indices=indices,
            pts_seconds=indices / 25,
            duration_seconds=4.0,
            span_threshold=0.5,
            span_gap_seconds=0.0,
        ),
        timing_ms={},
        engine={},
    )


def test_record_is_the_references(tmp_path):
    result = make_result()
    path = tmp_path / "results.jsonl"
    append_records(path, [make_record(result, result.queries[0], doc_id=7)])
    assert path.read_text("utf-8") == (
        '{"index": [25, 50, 0, 75], "logits": [0.88, 0.88, 0.62, 0.27], "num_frames": 1, '
        '"contexts": "Où est le vélo ?", "video_path": "bikes.mp4", "doc_id": 7}\n'
    )


def test_result_json_has_the_documented_keys():
    value = json.loads(json.dumps(make_result().to_json()))
    assert list(value) == [
        "video",
        "num_source_frames",
        "fps",
        "duration_seconds",
        "frame_indices",
        "pts_seconds",
        "num_frames",
        "grid",
        "queries",
        "timing_ms",
        "engine",
        "request_id",
    ]
    assert list(value["queries"][0]) == [
        "query",
        "frame_logits",
        "frame_scores",
        "selected_frames",
        "selected_seconds",
        "spans",
    ]
    assert value["queries"][0]["selected_seconds"] == [1.0, 2.0]
    assert value["queries"][0]["spans"] == [[0.0, 3.0, pytest.approx(0.880797)]]


def test_the_first_line_of_a_doc_id_counts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"doc_id": 1, "index": [3, 1]}\n\n{"doc_id": 1, "index": [9]}\n')
    assert read_records(path) == {1: [3, 1]}


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"index": [1]}', '{"doc_id": [], "index": []}']
)
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text('{"doc_id": 1, "index": [3, 1]}\n' + line + "\n")
    with pytest.raises(InvalidRequestError, match="line 2"):
        read_records(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match="cannot read"):
        read_records(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),
        ([1, 2, 9], [8, 2, 1], -1.0),
        ([1], [1], None),
        ([1, 2], [3, 4], None),
    ],
)
def test_kendall_tau(first, second, expected):
    assert kendall_tau(first, second) == (None if expected is None else pytest.approx(expected))


def test_compare_counts_overlap_of_the_first_k():
    first = {1: [1, 2, 3, 4], 2: [5, 6], 3: [0]}
    second = {1: [2, 1, 9, 8], 2: [6, 7], 4: [0]}
    got = compare_records(first, second, top_k=2)
    assert got.overlap_at_k == pytest.approx((1.0 + 0.5) / 2)
    assert (got.num_questions, got.num_only_in_first, got.num_only_in_second) == (2, 1, 1)
    assert got.kendall_tau == pytest.approx(-1.0)


def test_compare_of_short_lists_uses_what_is_there():
    assert compare_records({1: [4, 5]}, {1: [5, 4]}, top_k=32).overlap_at_k == 1.0


def test_compare_refuses_files_that_share_nothing():
    with pytest.raises(InvalidRequestError, match="share no doc_id"):
        compare_records({1: [1]}, {2: [1]}, top_k=1)


def test_compare_refuses_k_of_zero():
    with pytest.raises(InvalidRequestError, match="top_k must be >= 1, got 0"):
        compare_records({1: [1]}, {1: [1]}, top_k=0)
