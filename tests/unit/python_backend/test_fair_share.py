from __future__ import annotations

from contextlib import ExitStack

import pytest

from groundserve.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from groundserve.runtime.deadline import Deadline
from python_backend.fair_share import FairShare, read_light_pixels

SOON = Deadline.after(10**6)


def make(*, num_seats: int = 1, num_decoders: int = 2) -> FairShare:
    return FairShare(num_seats=num_seats, num_decoders=num_decoders, light_pixels=100)


def test_small_videos_need_neither_a_seat_nor_a_turn():
    share = make()
    with share.admit(101, SOON) as turn, turn():
        for _ in range(3):
            with share.admit(100, SOON) as small:
                assert small is None


def test_costly_video_is_refused_at_once_where_all_seats_are_taken():
    share = make(num_seats=2)
    for _ in range(2):  # the seats are free again afterwards
        with share.admit(101, SOON), share.admit(101, SOON):
            with pytest.raises(UnavailableError, match="as many costly"), share.admit(101, SOON):
                pytest.fail("it was admitted")
            with share.admit(100, SOON):
                pass


def test_seat_and_turn_are_free_again_after_an_error():
    share = make()
    for _ in range(2):
        with pytest.raises(RuntimeError), share.admit(101, SOON) as turn, turn():
            raise RuntimeError


@pytest.mark.parametrize(("num_decoders", "num_turns"), [(1, 1), (2, 1), (3, 2)])
def test_one_decoder_of_several_is_left_to_the_others(num_decoders, num_turns):
    share = make(num_seats=9, num_decoders=num_decoders)
    with ExitStack() as held:
        for _ in range(num_turns):
            held.enter_context(held.enter_context(share.admit(101, SOON))())
        with share.admit(101, Deadline.after(0.05)) as turn, pytest.raises(DeadlineExceededError):
            turn().__enter__()


def test_operator_says_what_is_light():
    assert read_light_pixels(7, {}) == 7
    assert read_light_pixels(7, {"GROUNDSERVE_LIGHT_PIXELS": "123"}) == 123
    for text in ("", "0", "-1", "1e9", "9" * 19, "²"):
        with pytest.raises(InvalidRequestError, match="must be a whole number above 0, got"):
            read_light_pixels(7, {"GROUNDSERVE_LIGHT_PIXELS": text})
