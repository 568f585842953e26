from __future__ import annotations

import subprocess
import sys

import pytest

from groundserve.deadline import Deadline
from groundserve.errors import DeadlineExceededError, RequestCancelledError
from python_backend.cache.lock import is_locked, locked

KEY, OTHER = "ab" * 32, "cd" * 32
HOLD = """
import sys, time
from pathlib import Path
from groundserve.deadline import Deadline
from python_backend.cache.lock import locked
with locked(Path(sys.argv[1]), sys.argv[2], deadline=Deadline.after(9)):
    print("held", flush=True)
    time.sleep(60)
"""


def soon() -> Deadline:
    return Deadline.after(0.05)


def test_one_holder_a_key(tmp_path):
    lock = tmp_path / "lock"
    with locked(lock, KEY, deadline=soon()):
        assert is_locked(lock, KEY)
        assert not is_locked(lock, OTHER)
        with pytest.raises(DeadlineExceededError), locked(lock, KEY, deadline=soon()):
            pytest.fail("locked twice")
        with locked(lock, OTHER, deadline=soon()):
            assert is_locked(lock, OTHER)
    assert not is_locked(lock, KEY)


def test_wait_ends_when_the_request_is_cancelled(tmp_path):
    asked = iter([False, False, True])
    cancelled = Deadline.after(60, is_cancelled=lambda: next(asked))
    lock = tmp_path / "lock"
    with (
        locked(lock, KEY, deadline=soon()),
        pytest.raises(RequestCancelledError),
        locked(lock, KEY, deadline=cancelled),
    ):
        pytest.fail("locked twice")


def test_killed_process_lets_go(tmp_path):
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(lock), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert is_locked(lock, KEY)
        holder.kill()
        with locked(lock, KEY, deadline=Deadline.after(10)):
            pass
