from __future__ import annotations

import json

import pytest

from groundserve.errors import EngineMismatchError, InvalidRequestError, MediaError
from python_backend.triton._answer import Answer, log_line

REPORT = {
    "num_frames": 512,  # the ceiling, which is no size of this request
    "grid": 8,
    "cache_hit": False,
    "video_bytes": 9,
    "timing_ms": {"ground": 1.23456},
}


def line_of(result, *, request_id="a-1", shapes=None):
    line = log_line("grounding", request_id, result, shapes=shapes or {}, seconds=0.25)
    value = json.loads(line)
    assert value.pop("time")
    return value


def test_line_of_an_answer_in_text_counts_tokens():
    generation = {"prefix_tokens": 135, "prompt_tokens": 9, "generated_tokens": 4, "seed": 5}
    line = line_of(Answer(outputs={}, report={**REPORT, "generation": generation}))
    assert (line["prefix_tokens"], line["prompt_tokens"], line["generated_tokens"]) == (135, 9, 4)
    assert "seed" not in line


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (MediaError("frame 3 does not decode"), "MediaError", "frame 3 does not decode"),
        (
            MediaError("cannot open the video '/secret.mp4': gone"),
            "MediaError",
            'cannot open the video "...": gone',
        ),
        (InvalidRequestError('got "a secret'), "InvalidRequestError", 'got "..."'),
        (
            EngineMismatchError("/secret"),
            "InternalError",
            "the server failed on this request; its log says why",
        ),
        (
            KeyError("secret"),
            "InternalError",
            "the server failed on this request; its log says why",
        ),
    ],
)
def test_line_of_an_error_repeats_nothing_of_the_request(error, name, message):
    shapes = {"VIDEO": (7,), "QUERY": (1,), "OPTIONS": (1,)}
    assert line_of(error, shapes=shapes) == {
        "event": "request",
        "model": "grounding",
        "request_id": "a-1",
        "outcome": "error",
        "error": name,
        "message": message,
        "video_bytes": 7,
        "num_queries": 1,
        "seconds": 0.25,
    }


def test_made_up_facts_do_not_reach_the_log():
    report = {
        "cache_hit": "secret",
        "grid": ["secret"],
        "secret": 1,
        "video_bytes": 10**400,
        "timing_ms": {"secret": 1, "ground": "secret", "cut": float("nan"), "encode": 2.0},
    }
    line = line_of(Answer(outputs={}, report=report))
    assert "secret" not in json.dumps(line)
    assert "video_bytes" not in line
    assert line["timing_ms"] == {"encode": 2.0}
