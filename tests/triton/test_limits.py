"""Limits are applied at the first place that can: nothing is decoded for what breaks one."""

from __future__ import annotations

import json

import pytest

from groundserve.errors import InvalidRequestError
from tests.triton.protocol import RejectedError
from tests.triton.serve import serve


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ([], {}, "QUERY must hold 1..2 questions, got 0"),
        (["q"] * 3, {}, "QUERY must hold 1..2 questions, got 3"),
        (["q", "x" * 21], {}, "QUERY[1] must be at most 20 bytes, got 21"),
        (["<image>"], {}, "QUERY must not contain the placeholder <image>; remove it"),
        (["q"], {"num_frames": 41}, "num_frames must be <= 40 on this server, got 41"),
    ],
)
def test_nothing_is_read_for_a_request_past_an_operators_limit(
    limited, clips, queries, options, message
):
    before = limited.metrics()
    with pytest.raises(RejectedError) as caught:
        limited.ask(clips["carphone_pristine"], *queries, **{"num_frames": 8, **options})
    assert caught.value == RejectedError("INVALID_ARG", f"in ensemble 'videoitg', {message}")
    after = limited.metrics()
    for name in ("frames_decoded_total", 'stage_seconds_count{stage="probe"}'):
        assert after[name] == before[name]


def test_upload_past_an_operators_limit_is_refused(limited, tmp_path):
    video = tmp_path / "large.mp4"
    video.write_bytes(bytes(1_500_001))
    with pytest.raises(RejectedError, match=r"at most 1500000 bytes \(max_upload_bytes\)"):
        limited.ask(video, "When?", num_frames=8)


def test_request_within_the_limits_is_answered_without_a_trace_of_the_deadline(limited, clips):
    answer = limited.ask(clips["carphone_pristine"], "q", "r", num_frames=8)
    assert answer["FRAME_LOGITS"].shape[0] == 2
    assert not any("deadline" in name for name in json.loads(answer["INFO"][0]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MAX_QUERY", "8", "GROUNDSERVE_MAX_QUERY is not a limit"),
        ("MAX_QUERIES", "many", "GROUNDSERVE_MAX_QUERIES must be a whole number above 0"),
    ],
)
def test_server_does_not_start_with_a_setting_it_cannot_read(
    engine_dirs, tmp_path, name, value, message
):
    with (
        pytest.raises(InvalidRequestError, match=message),
        serve(engine_dirs["cpu"], tmp_path / "log", **{name: value}),
    ):
        pytest.fail("it started")
