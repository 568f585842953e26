from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.deadline import Deadline
from groundserve.errors import UnavailableError
from python_backend.fair_share import FairShare

SOON = Deadline.after(10**6)
HOLDER = """
import sys, time
from pathlib import Path
from groundserve.deadline import Deadline
from python_backend.fair_share import FairShare
share = FairShare(directory=Path(sys.argv[1]), num_seats=2, num_turns=1, light_pixels=100)
with share.admit(101, Deadline.after(60)) as turn, turn():
    print(flush=True)
    time.sleep(60)
"""


@pytest.fixture
def share(tmp_path: Path) -> FairShare:
    return FairShare(directory=tmp_path, num_seats=2, num_turns=1, light_pixels=100)


def test_seat_is_free_again_after_an_error(share):
    num_open = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RuntimeError), share.admit(101, SOON):
            raise RuntimeError
    assert len(os.listdir("/proc/self/fd")) == num_open


def test_process_that_dies_leaves_its_seat_and_turn(share):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(share.directory)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with share.admit(101, SOON):
            with pytest.raises(UnavailableError), share.admit(101, SOON):
                pytest.fail("it was admitted")
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with share.admit(101, SOON) as turn, turn():
                pass
