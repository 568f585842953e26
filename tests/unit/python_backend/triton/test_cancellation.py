from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.errors import RequestCancelledError, UnsupportedError
from python_backend.triton._cancellation import CancellationToken, cancellation_of

HOLD = """
import json, time
from python_backend.triton._cancellation import CancellationToken
cancellation = CancellationToken()
print(json.dumps(cancellation.parameters), flush=True)
time.sleep(60)
"""


class Request:
    """A request as the stub gives it."""

    def __init__(self, **parameters):
        self._parameters = json.dumps(parameters) if parameters else ""

    def parameters(self):
        return self._parameters


def test_cancellation_token_is_held_until_it_is_closed():
    cancellation = CancellationToken()
    request = Request(code_in_message=True, **cancellation.parameters)
    is_cancelled = cancellation_of(request)
    assert not is_cancelled()
    (token,) = cancellation.parameters.values()
    assert token not in Path("/proc/net/unix").read_text()
    for _ in range(2):
        cancellation.close()
        with pytest.raises(RequestCancelledError):
            cancellation_of(request)
    assert is_cancelled()


def test_killed_caller_lets_go_of_its_cancellation_token():
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) as caller:
        request = Request(**json.loads(caller.stdout.readline()))
        assert not cancellation_of(request)()
        caller.kill()
        caller.wait()
        with pytest.raises(RequestCancelledError):
            cancellation_of(request)


@pytest.mark.parametrize("token", [None, "", "x" * 32, "a" * 33, "\n", 7, True, 1.5])
def test_whoever_has_no_cancellation_token_is_refused(token):
    request = Request() if token is None else Request(cancellation=token)
    with pytest.raises(UnsupportedError, match="works for the server's own models only"):
        cancellation_of(request)
