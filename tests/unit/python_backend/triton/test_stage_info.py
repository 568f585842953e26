from __future__ import annotations

import json

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
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
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"timing_ms": 1}',
        b'{"timing_ms": {}, "deadline_monotonic_seconds": []}',
        b'{"timing_ms": {}, "deadline_monotonic_seconds": 1%s}' % (b"0" * 400),
        b'{"timing_ms": {}, "deadline_monotonic_seconds": 1%s}' % (b"0" * 5000),
    ],
)
def test_what_no_step_wrote_is_refused(text):
    with pytest.raises(InvalidRequestError, match="STAGE_INFO must be what the step before"):
        read(text, Deadline.after(1))
