"""Whether anybody still waits for a request: asked of Triton, and told to models called by it."""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from groundserve.deadline import POLL_SECONDS, Deadline
from groundserve.errors import InvalidRequestError
from python_backend.triton._parameters import read_parameters

_LIFELINE = "lifeline"
"""Request parameter of BLS calls: the name of the caller's lifeline."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


def cancellation_of(request: Any) -> Callable[[], bool]:
    """Return what tells whether a request was cancelled; to be asked until it is answered.

    Triton knows of the calls that clients made by gRPC. It knows nothing of a step inside an
    ensemble, of HTTP, or of BLS calls; for these there is the caller's lifeline.

    Raises:
        InvalidRequestError: The lifeline's name is none, which only a direct caller of an inner
            model can make happen, or a parameter is not UTF-8.

    Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_cancel.cc.
    Any thread may ask: the interpreter is let go of, and a second thread waits for the first one's
    answer. The server looks the request up by its address, so it must not have been answered.
    """
    name = read_parameters(request).get(_LIFELINE)
    if name is None:
        return _asked_in_turns(request.is_cancelled)
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidRequestError(f"the parameter {_LIFELINE} must be 32 hex digits")
    # A request by BLS: its own `is_cancelled` never becomes true, its caller's lifeline may.
    return _asked_in_turns(lambda: not _is_held(name))


class Lifeline:
    """Tells models called by BLS whether their caller still wants the answer.

    A BLS call cannot be cancelled by its caller in the oldest server that is supported (2.51), and
    who computes the answer is another process. While the caller wants the answer it holds a socket
    whose name goes with the call; with the socket, or the process, the name is gone. Nothing is
    ever sent. Another user who reads the name in /proc can learn no more than that by it.
    """

    def __init__(self) -> None:
        token = secrets.token_hex(16)
        self.parameters = {_LIFELINE: token}
        """Of BLS calls that are to end with this one."""
        # Datagrams: connecting needs nobody who listens and accepts, a bound name is enough.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_address(token))

    @classmethod
    @contextmanager
    def tied_to(cls, deadline: Deadline) -> Iterator[tuple[Self, Deadline]]:
        """Hold a lifeline until the block ends, or the request is found cancelled.

        Args:
            deadline: The request's.

        Yields:
            The lifeline, and the deadline to use in the block: it lets go of the lifeline as soon
            as anybody learns from it that the request was cancelled.
        """
        lifeline = cls()

        def is_cancelled() -> bool:
            if deadline.is_cancelled is None or not deadline.is_cancelled():
                return False
            # Told in passing: whoever asks for this request lets go for all that it called.
            lifeline.close()
            return True

        try:
            yield lifeline, replace(deadline, is_cancelled=is_cancelled)
        finally:
            lifeline.close()

    def close(self) -> None:
        """Let go; a second call does nothing."""
        self._socket.close()


def _asked_in_turns(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Ask at once and then every `POLL_SECONDS`, one thread at a time; others get the last answer.

    Asking Triton takes a message to the server process and back (some 11 microseconds), looking for
    a lifeline two system calls (2 microseconds).
    """
    # One thread asks at a time; who finds it taken uses the last answer instead of waiting.
    lock = threading.Lock()
    is_cancelled = False
    next_at = 0.0

    def answer() -> bool:
        nonlocal is_cancelled, next_at
        # Once true it stays true: there is no request any more to ask about.
        if not is_cancelled and time.monotonic() >= next_at and lock.acquire(blocking=False):
            try:
                is_cancelled = ask()
                next_at = time.monotonic() + POLL_SECONDS
            finally:
                lock.release()
        return is_cancelled

    return answer


def _is_held(token: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        try:
            one.connect(_address(token))
        # No such name, or nobody who holds it.
        except ConnectionRefusedError:
            return False
        return True


def _address(token: str) -> str:
    # The leading zero byte: a name of the kernel's own, without a file that would outlive us.
    return f"\0groundserve-{token}"
