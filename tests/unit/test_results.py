import json
from dataclasses import replace

import pytest

from groundserve import GroundserveError, VideoInfo, results
from tests.support.results import make_info, make_result

INFO_KEYS = [
    "num_source_frames",
    "fps",
    "duration_seconds",
    "num_frames",
    "grid",
    "engine",
    "decoders",
    "cache_hit",
    "keyframe_shift_seconds",
    "video_bytes",
    "timing_ms",
]
INFO = make_info(
    num_source_frames=100,
    facts={"grid": 5},
    engine={"id": "0123", "note": None},
    decoders=["dali", "pyav (why not)"],
    cache_hit=True,
    keyframe_shift_seconds=0.25,
    timing_ms={"decode": 1.5, "ground": 2},
)


def test_result_json_has_the_documented_keys():
    value = json.loads(json.dumps(make_result().to_json()))
    assert list(value) == [
        "video",
        *INFO_KEYS,
        "frame_indices",
        "pts_seconds",
        "queries",
        "request_id",
    ]
    of_text = {"family", "answers", "generation"}
    assert set(value) == results._KEYS - of_text | {"grid"}
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


def test_a_newer_server_may_say_more():
    added = {"num_segments": 12, "warmth": 0.5, "is_new": True, "why": "because", "more": {"a": 1}}
    info = VideoInfo.from_json(json.dumps(INFO.to_json() | added))
    assert info == replace(INFO, facts={"grid": 5, "num_segments": 12})
    assert info.to_json()["num_segments"] == 12


def changed(name, value):
    return json.dumps(INFO.to_json() | {name: value})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "INFO must be one JSON object in UTF-8"),
        ("[" * 100_000, "INFO must be one JSON object in UTF-8"),
        ('{"fps": 1, "fps": 2}', 'INFO must hold each key once, got "fps" twice'),
        ('{"fps": NaN}', "INFO must hold finite numbers, got NaN"),
        ('{"fps": 1' + "0" * 5000 + "}", "INFO holds a number that is too long"),
        ("{}", "num_source_frames must be a whole number >= 0, got null"),
        (changed("fps", 1).replace('"fps": 1', '"fps": 1e999'), "fps must be a finite number"),
        (changed("engine", None), "engine must be an object, got null"),
        (changed("decoders", "pyav"), 'decoders must be a list of texts, got "pyav"'),
        (changed("cache_hit", 1), "cache_hit must be true or false, got 1"),
        (changed("timing_ms", {"decode": "1"}), "timing_ms must be an object of finite numbers"),
    ],
)
def test_what_no_server_of_ours_answers_is_one_error(text, problem):
    with pytest.raises(GroundserveError) as caught:
        VideoInfo.from_json(text)
    assert type(caught.value) is GroundserveError  # the request is not at fault
    assert str(caught.value).startswith(
        f"the server does not answer as groundserve does: {problem}"
    )
    assert str(caught.value).endswith("; it may be another version's")
    assert len(str(caught.value)) < 250
