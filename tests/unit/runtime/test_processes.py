from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from groundserve.runtime.processes import kill_processes, session_tree

# A process that leads a session, its child in the same one, and that child's in another.
FAMILY = """
import subprocess, sys
deepest = "import time; print('up', flush=True); time.sleep(60)"
middle = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deepest!r}], \
start_new_session=True)"
subprocess.run([sys.executable, "-c", middle])
"""


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"up\n"
        yield process
        kill_processes(session_tree(process.pid))


def test_kill_processes_waits_for_all(leader):
    tree = session_tree(leader.pid)
    kill_processes(tree)
    assert not session_tree(leader.pid)
    assert leader.poll() is not None or leader.wait(5) != 0


def test_kill_processes_spares_a_stranger_with_the_same_id(leader):
    member = next(iter(session_tree(leader.pid)))
    gone = subprocess.Popen(["true"])
    stranger = psutil.Process(gone.pid)
    gone.wait()
    stranger._pid = member.pid  # the number is another one's now
    kill_processes({stranger})
    assert member in session_tree(leader.pid)


def test_kill_processes_ends_a_stopped_process(leader):
    leader.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, leader.pid, os.WSTOPPED | os.WNOWAIT)
    kill_processes({one for one in session_tree(leader.pid) if one.pid == leader.pid})
    assert leader.wait(5) == -signal.SIGKILL
