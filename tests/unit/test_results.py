import json

import pytest

from tests.results import make_result


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


def test_result_is_shown_without_its_numbers():
    assert repr(make_result(queries=["How?"])) == (
        "ScoreResult(video='bikes.mp4', num_source_frames=100, fps=25.0, duration_seconds=4.0, "
        "frame_indices=int64 (4,), pts_seconds=float64 (4,), num_frames=512, grid=5, "
        "queries=[QueryResult(query='How?', frame_logits=float32 (4,), frame_scores=float32 (4,), "
        "selected_frames=int64 (2,), selected_seconds=float64 (2,), "
        "spans=[Span(start_seconds=0.0, end_seconds=3.0, score=0.8807970285415649)])], "
        "timing_ms={}, engine={}, request_id=None)"
    )
