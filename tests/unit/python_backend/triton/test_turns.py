"""Requests side by side, where another process does the work."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from groundserve.errors import UnavailableError
from groundserve.runtime.deadline import Deadline
from python_backend.triton import _turns
from python_backend.triton._turns import Together, Work

SECONDS = 10.0


def work(finished: SimpleQueue, *, until: threading.Event | None = None, result="done") -> Work:
    def turns():
        yield
        if until is not None:
            until.wait(SECONDS)
        if isinstance(result, Exception):
            raise result
        return result

    return Work(turns=turns(), deadline=Deadline.after(SECONDS), finish=finished.put)


def test_one_that_takes_long_keeps_nobody_waiting():
    together, finished, goes_on = Together(), SimpleQueue(), threading.Event()
    together.add(work(finished, until=goes_on, result="slow"))
    together.add(work(finished, result="quick"))
    together.add(work(finished, result=UnavailableError("vLLM ended")))
    found = {str(finished.get(timeout=SECONDS)) for _ in range(2)}
    assert found == {"quick", "vLLM ended"}
    goes_on.set()
    assert finished.get(timeout=SECONDS) == "slow"
    assert not together.others_wait()


def test_more_than_there_is_room_for_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_turns, "_MAX_TOGETHER", 1)
    together, finished, goes_on = Together(), SimpleQueue(), threading.Event()
    together.add(work(finished, until=goes_on, result="first"))
    waits = threading.Thread(target=together.add, args=(work(finished, result="second"),))
    waits.start()
    waits.join(0.1)
    assert waits.is_alive()
    assert finished.empty()
    goes_on.set()
    assert [finished.get(timeout=SECONDS) for _ in range(2)] == ["first", "second"]
    waits.join(SECONDS)
    assert not waits.is_alive()
