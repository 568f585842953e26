from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError, UnavailableError
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


@pytest.mark.parametrize(
    ("num_instances", "num_decoders", "num_seats", "num_turns"), [(4, 2, 3, 1), (2, 1, 1, 1)]
)
def test_one_instance_and_one_decoder_of_several_are_left(
    num_instances, num_decoders, num_seats, num_turns
):
    numbers = {"num_instances": num_instances, "num_decoders": num_decoders}
    share = FairShare.from_environment(
        **numbers, light_pixels=7, environment={"GROUNDSERVE_SHARE_DIR": "/s"}
    )
    assert share == FairShare(
        directory=Path("/s"), num_seats=num_seats, num_turns=num_turns, light_pixels=7
    )
    assert FairShare.from_environment(**numbers, light_pixels=7, environment={}) is None


def test_operator_says_what_is_light():
    environment = {"GROUNDSERVE_SHARE_DIR": "/s", "GROUNDSERVE_LIGHT_PIXELS": "123"}
    share = FairShare.from_environment(
        num_instances=4, num_decoders=2, light_pixels=7, environment=environment
    )
    assert share is not None
    assert share.light_pixels == 123
    for text in ("", "0", "-1", "1e9", "9" * 19, "²"):
        with pytest.raises(InvalidRequestError, match="must be a whole number above 0, got"):
            FairShare.from_environment(
                num_instances=4,
                num_decoders=2,
                light_pixels=7,
                environment={"GROUNDSERVE_LIGHT_PIXELS": text},
            )
