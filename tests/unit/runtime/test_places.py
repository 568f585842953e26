"""Places that threads wait for."""

from __future__ import annotations

import threading
import time

import pytest

from groundserve.errors import DeadlineExceededError
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.places import Places

LONG = Deadline.after(10**6)


def test_who_waits_longest_is_next_and_who_gives_up_keeps_nobody_out():
    places, order = Places(1), []

    def wait_for_one(number: int) -> None:
        with places.held(LONG):
            order.append(number)

    threads = []
    with places.held(LONG):
        for number in range(5):
            threads.append(threading.Thread(target=wait_for_one, args=(number,)))
            threads[-1].start()
            while len(places._waiting) <= number:
                time.sleep(0.001)
            if number == 2:
                with pytest.raises(DeadlineExceededError), places.held(Deadline.after(0.01)):
                    pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    with places.held(Deadline.after(10**6)), pytest.raises(DeadlineExceededError):
        places.held(Deadline.after(0.01)).__enter__()
