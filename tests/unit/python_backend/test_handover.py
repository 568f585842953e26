from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from python_backend.handover import offered, take

DATA = np.arange(256, dtype=np.uint8).repeat(1000)

RECEIVER = """
import sys
from python_backend.handover import take
print(int(take(sys.argv[1]).astype(int).sum()))
"""


def test_another_process_takes_what_is_offered():
    with offered(DATA) as place:
        command = [sys.executable, "-c", RECEIVER, place]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) == DATA.astype(int).sum()


def test_what_was_taken_outlives_the_offer_and_nobody_can_write_to_it():
    num_open = len(os.listdir("/proc/self/fd"))
    with offered(DATA[::2]) as place:
        taken = take(place)
        with pytest.raises(PermissionError), open(place, "r+b") as file:
            file.write(b"x")
    np.testing.assert_array_equal(taken, DATA[::2])
    assert not taken.flags.writeable
    del taken
    with pytest.raises(FileNotFoundError):
        take(place)
    assert len(os.listdir("/proc/self/fd")) == num_open
