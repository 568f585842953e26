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
