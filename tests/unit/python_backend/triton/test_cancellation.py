from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from groundserve.deadline import POLL_SECONDS, Deadline
from groundserve.errors import InvalidRequestError, RequestCancelledError
from python_backend.triton._cancellation import Lifeline, cancellation_of

HOLD = """
import json, time
from python_backend.triton._cancellation import Lifeline
lifeline = Lifeline()
print(json.dumps(lifeline.parameters), flush=True)
time.sleep(60)
"""
NEVER = Deadline.after(10**6)


class Request:
    """A request as the stub gives it; `is_cancelled` must not be asked twice at one time."""

    def __init__(self, **parameters):
        self.is_over = False
        self.num_asked = 0
        self._parameters = json.dumps(parameters) if parameters else ""
        self._asking = threading.Lock()

    def parameters(self):
        return self._parameters

    def is_cancelled(self):
        assert self._asking.acquire(blocking=False)
        self.num_asked += 1
        threading.Event().wait(0.01)
        self._asking.release()
        return self.is_over


def test_a_request_that_was_cancelled_stays_so():
    request = Request(code_in_message=True)
    is_cancelled = cancellation_of(request)
    assert not is_cancelled()
    request.is_over = True
    time.sleep(POLL_SECONDS)  # it is not asked more often
    assert is_cancelled()
    request.is_over = False
    assert is_cancelled()


def test_lifeline_is_held_for_the_length_of_its_block():
    with Lifeline.tied_to(NEVER) as (lifeline, deadline):
        deadline.check()
        assert not cancellation_of(Request(**lifeline.parameters))()
    assert cancellation_of(Request(**lifeline.parameters))()


def test_lifeline_is_let_go_as_soon_as_anybody_hears_of_the_cancellation():
    is_over = threading.Event()
    own = Deadline.after(60, is_cancelled=is_over.is_set)
    with Lifeline.tied_to(own) as (lifeline, deadline):
        is_cancelled = cancellation_of(Request(**lifeline.parameters))
        deadline.check()
        assert not is_cancelled()
        is_over.set()
        with pytest.raises(RequestCancelledError):
            deadline.check()
        assert cancellation_of(Request(**lifeline.parameters))()


def test_killed_caller_lets_go_of_its_lifeline():
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as caller:
        parameters = json.loads(caller.stdout.readline())
        assert not cancellation_of(Request(**parameters))()
        caller.kill()
        caller.wait()
        assert cancellation_of(Request(**parameters))()


@pytest.mark.parametrize("name", ["", "x" * 32, "a" * 33, "\n", 7, True, 1.5])
def test_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidRequestError, match="lifeline must be 32 hex digits"):
        cancellation_of(Request(lifeline=name))
