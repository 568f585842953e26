from __future__ import annotations

import os

import numpy as np
import pytest

from groundserve.errors import InvalidRequestError
from python_backend.handover import offered, take

DATA = np.arange(256, dtype=np.uint8).repeat(1000)


def test_what_was_taken_outlives_the_offer_and_cannot_be_written():
    with offered(DATA[::2]) as reference:
        taken = take(reference)
    np.testing.assert_array_equal(taken, DATA[::2])
    assert not taken.flags.writeable


def test_nothing_is_left_open():
    before = len(os.listdir("/proc/self/fd"))
    with offered(DATA) as reference:
        take(reference)
    with pytest.raises(InvalidRequestError), offered(DATA) as reference:
        take(f"{reference}0")
    assert len(os.listdir("/proc/self/fd")) == before


def test_offer_ends_with_the_block():
    with offered(DATA) as reference:
        pass
    with pytest.raises(InvalidRequestError, match="must name memory that this server offers"):
        take(reference)


@pytest.mark.parametrize(
    "reference",
    ["", "1/1", "/etc/passwd", "self/0/" + "0" * 32, "-1/0/" + "0" * 32, "1/0/" + "0" * 31],
)
def test_other_texts_are_refused(reference):
    with pytest.raises(InvalidRequestError, match="must name memory that this server offers"):
        take(reference)


def test_memory_is_reached_with_its_own_secret_only():
    with offered(DATA) as one, offered(DATA) as other:
        place, _, _ = one.rpartition("/")
        _, _, secret = other.rpartition("/")
        with pytest.raises(InvalidRequestError):
            take(f"{place}/{secret}")


def test_no_other_file_is_opened(tmp_path):
    """Not even one whose name looks right: opening a FIFO would wait for ever."""
    secret = "0" * 32
    fifo = tmp_path / f"memfd:groundserve_{secret} (deleted)"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR)
    with pytest.raises(InvalidRequestError):
        take(f"{os.getpid()}/{fd}/{secret}")
    os.close(fd)


def test_memory_that_could_still_change_is_refused():
    """Its owner could shorten it, and reading it would then kill the process."""
    secret = "0" * 32
    fd = os.memfd_create(f"groundserve_{secret}", os.MFD_ALLOW_SEALING)
    os.write(fd, b"data")
    with pytest.raises(InvalidRequestError):
        take(f"{os.getpid()}/{fd}/{secret}")
    os.close(fd)
