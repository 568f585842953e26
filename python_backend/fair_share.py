"""Room for small requests: videos that take long to decode may hold only a part of a server.

`video_decode` serves chunks in the order they come, and chunks of a costly video may take seconds
each. So few costly videos are read at one time, the next is refused, and those that are read are
decoded one after another, which leaves a decoder to the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from groundserve.errors import UnavailableError
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.places import Places

LIGHT_PIXELS_VARIABLE = "GROUNDSERVE_LIGHT_PIXELS"


class FairShare:
    """What costly videos may hold of one server; all its requests share this object."""

    def __init__(self, *, num_seats: int, num_decoders: int, light_pixels: int) -> None:
        """Nothing is held yet.

        `num_seats` costly videos are read at one time, and one of several decoders is left to the
        others. A video that decodes to `light_pixels` at most is none of them.
        """
        self.light_pixels = light_pixels
        self._num_seats = num_seats
        self._seats = threading.Semaphore(num_seats)
        self._places = Places(max(1, num_decoders - 1))

    @contextmanager
    def admit(self, num_pixels: int, deadline: Deadline) -> Iterator[None]:
        """Let a costly video be decoded once those before it are; UnavailableError without a seat.

        It raises as `Deadline.check` while it waits.
        """
        if not self._seats.acquire(blocking=False):
            raise UnavailableError(
                "the server works on as many costly videos as it may: decoding this one takes "
                f"{num_pixels / 1e9:.1f} gigapixels, and {self._num_seats} of more than "
                f"{self.light_pixels / 1e9:g} are read; try again later, or sample fewer frames"
            )
        try:
            with self._places.held(deadline):
                yield
        finally:
            self._seats.release()
