"""The model `front` says that it has no file descriptor left, and goes on when it has one."""

from __future__ import annotations

import os
import resource

import pytest

from tests.triton.protocol import RejectedError


def test_requests_are_unavailable_meanwhile(harmed, clips):
    (front,) = (stub.pid for stub in harmed.triton.stubs() if stub.model == "front")
    before = resource.prlimit(front, resource.RLIMIT_NOFILE)
    are_open = {int(name) for name in os.listdir(f"/proc/{front}/fd")}
    next_number = min(set(range(len(are_open) + 1)) - are_open)
    resource.prlimit(front, resource.RLIMIT_NOFILE, (next_number, before[1]))
    try:
        for _ in range(2):  # the first request of a process does more than the next
            with pytest.raises(RejectedError) as caught:
                harmed.ask(clips["vfr"], "When?")
            assert caught.value.code == "UNAVAILABLE"
            assert "the server has no file descriptor left; try again later" in caught.value.message
            assert "importlib" not in caught.value.message
    finally:
        resource.prlimit(front, resource.RLIMIT_NOFILE, before)
    assert harmed.ask(clips["vfr"], "When?")["FRAME_LOGITS"].shape[0] == 1
