"""Room for small requests: videos that take long to decode may hold only a part of a server.

Instances of `video_features` serve one request at a time, and `video_decode` serves chunks in the
order they come. Without a bound a few costly videos hold all instances, and their chunks, which may
take seconds each, are decoded before a small video's only one. So a costly video needs one of a
few seats as long as it is read, and is refused where all are taken; and those that have a seat take
turns at decoding, so that a decoder stays free for the others.

Seats and turns are locks on files (`flock`) in a folder that the instances of one server share. The
kernel releases them when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.triton_messages import SEATS_TAKEN

SHARE_DIR_VARIABLE = "GROUNDSERVE_SHARE_DIR"
"""Environment variable with the folder of one server's locks; without it nothing is bounded."""

LIGHT_PIXELS_VARIABLE = "GROUNDSERVE_LIGHT_PIXELS"

Turn = Callable[[], AbstractContextManager[None]]
"""Held while a group is decoded."""

_POLL_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class FairShare:
    """What costly videos may hold of one server."""

    directory: Path
    """Of the locks; private to the server."""
    num_seats: int
    """Costly videos that are read at one time, >= 1."""
    num_turns: int
    """Chunks of costly videos that are decoded at one time, >= 1."""
    light_pixels: int
    """Pixels that a video decodes to at most without being costly."""

    @classmethod
    def from_environment(
        cls,
        *,
        num_instances: int,
        num_decoders: int,
        light_pixels: int,
        environment: Mapping[str, str] = os.environ,
    ) -> Self | None:
        """Leave one instance and, where there are several, one decoder to videos that are light.

        Args:
            num_instances: Of `video_features`.
            num_decoders: Instances of `video_decode`.
            light_pixels: What counts where the operator says nothing.
            environment: Variables of the process.

        Returns:
            None where the server names no folder, or there is one instance only.

        Raises:
            InvalidRequestError: The operator's `light_pixels` is not a whole number above 0.
        """
        text = environment.get(LIGHT_PIXELS_VARIABLE, str(light_pixels))
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) == 0:
            raise InvalidRequestError(
                f"{LIGHT_PIXELS_VARIABLE} must be a whole number above 0, got {text!r}"
            )
        directory = environment.get(SHARE_DIR_VARIABLE)
        # With one instance nobody could be let past a costly video.
        if not directory or num_instances < 2:
            return None
        return cls(
            directory=Path(directory),
            num_seats=num_instances - 1,
            num_turns=max(1, num_decoders - 1),
            light_pixels=int(text),
        )

    def __post_init__(self) -> None:
        for name in ("num_seats", "num_turns", "light_pixels"):
            value = getattr(self, name)
            if value < 1:
                raise InvalidRequestError(f"{name} must be >= 1, got {value}")

    @contextmanager
    def admit(self, num_pixels: int, deadline: Deadline) -> Iterator[Turn | None]:
        """Hold a seat where a video needs one, and give what it then needs for each chunk.

        Args:
            num_pixels: What all groups of the video decode to, before resizing.
            deadline: When to stop waiting for a turn.

        Raises:
            UnavailableError: The video is costly and all seats are taken.
        """
        if num_pixels <= self.light_pixels:
            yield None
            return
        # No waiting for a seat: who waits would hold the instance that the seat is to keep free.
        seat = self._take("seat", self.num_seats)
        if seat is None:
            raise UnavailableError(
                f"{SEATS_TAKEN}: decoding this one takes {num_pixels / 1e9:.1f} gigapixels, and "
                f"{self.num_seats} of more than {self.light_pixels / 1e9:g} are read; try again "
                "later, or sample fewer frames"
            )
        try:
            yield lambda: self._turn(deadline)
        finally:
            # Closing the descriptor releases its lock.
            os.close(seat)

    @contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        while (turn := self._take("turn", self.num_turns)) is None:
            deadline.check()
            # Asked again and again: a blocking flock could be left neither at the deadline nor on
            # cancellation.
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            os.close(turn)

    def _take(self, kind: str, number: int) -> int | None:
        """Return the descriptor that holds a free lock of this kind, None where all are taken."""
        for i in range(number):
            # O_NOFOLLOW: no link may lead a lock to another file.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self.directory / f"{kind}-{i}", flags, 0o600)
            try:
                # The lock belongs to the open file, so a second `open` in this process competes for
                # it like any other.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return fd
        return None
