from __future__ import annotations

from contextlib import ExitStack

import pytest

from groundserve.errors import DeadlineExceededError, UnavailableError
from groundserve.runtime.deadline import Deadline
from python_backend.fair_share import FairShare

SOON = Deadline.after(10**6)


def make(*, num_seats: int = 1, num_decoders: int = 2) -> FairShare:
    return FairShare(num_seats=num_seats, num_decoders=num_decoders, light_pixels=100)


def test_costly_video_is_refused_at_once_where_all_seats_are_taken():
    share = make(num_seats=2, num_decoders=3)
    for _ in range(2):  # the seats are free again afterwards
        with ExitStack() as held:
            for _ in range(2):
                held.enter_context(share.admit(101, SOON))
            with pytest.raises(UnavailableError, match="as many costly"):
                held.enter_context(share.admit(101, SOON))


def test_all_is_free_again_after_an_error():
    share = make()
    for _ in range(2):
        with pytest.raises(RuntimeError), share.admit(101, SOON):
            raise RuntimeError


@pytest.mark.parametrize(("num_decoders", "num_at_once"), [(1, 1), (2, 1), (3, 2)])
def test_one_decoder_of_several_is_left_to_the_others(num_decoders, num_at_once):
    share = make(num_seats=9, num_decoders=num_decoders)
    with ExitStack() as held:
        for _ in range(num_at_once):
            held.enter_context(share.admit(101, SOON))
        with pytest.raises(DeadlineExceededError), share.admit(101, Deadline.after(0.05)):
            pytest.fail("it was admitted")
