"""Room for small requests: videos that take long to decode may hold only a part of a server.

`video_decode` serves chunks in the order they come, and chunks of a costly video may take seconds
each. So few costly videos are read at one time, the next is refused, and those that are read take
turns at decoding, which leaves a decoder to the others.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.places import Places

LIGHT_PIXELS_VARIABLE = "GROUNDSERVE_LIGHT_PIXELS"

Turn = Callable[[], AbstractContextManager[None]]
"""Held while a group is decoded."""


class FairShare:
    """What costly videos may hold of one server; all its requests share this object."""

    def __init__(self, *, num_seats: int, num_decoders: int, light_pixels: int) -> None:
        """Nothing is held yet.

        `num_seats` costly videos are read at one time, and one of several decoders is left to the
        others. A video that decodes to `light_pixels` at most is none of them.
        """
        self._num_seats = num_seats
        self._light_pixels = light_pixels
        self._seats = threading.Semaphore(num_seats)
        self._turns = Places(max(1, num_decoders - 1))

    @contextmanager
    def admit(self, num_pixels: int, deadline: Deadline) -> Iterator[Turn | None]:
        """Hold a seat where a video needs one, and give what it then needs for each group."""
        if num_pixels <= self._light_pixels:
            yield None
            return
        if not self._seats.acquire(blocking=False):
            raise UnavailableError(
                "the server works on as many costly videos as it may: decoding this one takes "
                f"{num_pixels / 1e9:.1f} gigapixels, and {self._num_seats} of more than "
                f"{self._light_pixels / 1e9:g} are read; try again later, or sample fewer frames"
            )
        try:
            yield lambda: self._turns.held(deadline)
        finally:
            self._seats.release()


def read_light_pixels(default: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return what an operator sets, else the default; InvalidRequestError where it is no number."""
    text = environment.get(LIGHT_PIXELS_VARIABLE, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) == 0:
        raise InvalidRequestError(
            f"{LIGHT_PIXELS_VARIABLE} must be a whole number above 0, got {text!r}"
        )
    return int(text)
