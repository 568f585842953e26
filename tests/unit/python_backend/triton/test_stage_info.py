from __future__ import annotations

import json

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError, UnavailableError
from python_backend.triton._stage_info import StageInfo

FACTS = {"grid": 3, "timing_ms": {"decode": 1.5}}


def read(text: bytes, deadline: Deadline) -> StageInfo:
    return StageInfo.read({"STAGE_INFO": np.array([text], np.object_)}, "STAGE_INFO", deadline)


def test_next_step_knows_the_facts_and_the_earlier_deadline():
    first = StageInfo(facts=FACTS, deadline=Deadline(100.0, 9.0))
    tensor = first.to_tensor()
    assert tensor.shape == (1,)
    for own, at_seconds in ((150.0, 100.0), (50.0, 50.0)):
        second = read(tensor[0], Deadline(own, 9.0))
        assert second.facts == FACTS
        assert second.deadline == Deadline(at_seconds, 9.0)


def test_caller_does_not_see_the_deadline():
    info = StageInfo(facts=FACTS, deadline=Deadline.after(1)).with_timing({"ground": 2.5})
    assert json.loads(info.to_info()[0]) == {
        "grid": 3,
        "timing_ms": {"decode": 1.5, "ground": 2.5},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must be one JSON object in UTF-8"),
        (b"\xff", r"\[0\] must be UTF-8"),
        (b"[]", "must be one JSON object"),
        (b"[" * 60_000, "must be one JSON object"),
        (b" " * 65_537, "must be at most 65536 bytes, got 65537"),
        (b"{}", "must be what the step before answered"),
        (b'{"timing_ms": 1}', "must be what the step before answered"),
        (b'{"timing_ms": {"decode": "1"}}', "must be what the step before answered"),
        (b'{"timing_ms": {}, "deadline_monotonic_seconds": []}', "what the step before answered"),
        (b'{"timing_ms": {}, "deadline_monotonic_seconds": true}', "what the step before answered"),
        (b'{"timing_ms": {}, "deadline_monotonic_seconds": 1e999}', "what the step before"),
        (
            b'{"timing_ms": {}, "deadline_monotonic_seconds": 1' + b"0" * 400 + b"}",
            "must be what the step before answered",
        ),
        (
            b'{"timing_ms": {}, "deadline_monotonic_seconds": 1' + b"0" * 5000 + b"}",
            "a number that is too long",
        ),
        (b'{"timing_ms": {}, "deadline_monotonic_seconds": NaN}', "must hold finite numbers"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_no_step_wrote_is_refused(text, message):
    with pytest.raises(InvalidRequestError, match=f"STAGE_INFO.*{message}"):
        read(text, Deadline.after(1))


def test_features_of_other_engines_are_refused():
    deadline = Deadline.after(1)
    StageInfo(facts=FACTS, deadline=deadline).check_engine("a")
    info = StageInfo(facts={**FACTS, "engine": {"id": "a"}}, deadline=deadline)
    info.check_engine("a")
    with pytest.raises(
        UnavailableError, match='are of the engines "a", this server has b: another server'
    ):
        info.check_engine("b")


def test_name_of_other_engines_is_repeated_in_part_and_quoted():
    """Longer messages do not fit gRPC's header; what is quoted is kept out of the log."""
    facts = {**FACTS, "engine": {"id": "x" * 60_000}}
    with pytest.raises(UnavailableError) as caught:
        StageInfo(facts=facts, deadline=Deadline.after(1)).check_engine("b")
    assert f'engines "{"x" * 56}..., this' in str(caught.value)
