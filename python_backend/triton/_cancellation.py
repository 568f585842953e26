"""Whether anybody still waits for a request: asked of Triton, and told to models called by it."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from groundserve.errors import RequestCancelledError, UnsupportedError
from python_backend.triton._tensors import read_parameters

_PARAMETER = "cancellation"
"""Request parameter of BLS calls: the secret of the caller's token."""
_TOKEN = re.compile(r"[0-9a-f]{32}")
_TOKEN_FORMAT = struct.Struct("<ii")
"""The number of a question, and a token of its answer."""
_MAX_MESSAGE_BYTES = 4096 * _TOKEN_FORMAT.size


class CancellationToken:
    """Tells models called by BLS whether their caller still wants the answer.

    A BLS call cannot be cancelled by its caller in the oldest server that is supported (2.51), and
    who computes the answer is another process. While the caller wants the answer it holds a socket
    whose secret goes with the call; with the socket, or the process, its name is gone. What is sent
    there are tokens of answers alone, by `token_sender`. The name is a digest: it can be read in
    /proc, and tells no secret.
    """

    def __init__(self) -> None:
        token = secrets.token_hex(16)
        self.parameters = {_PARAMETER: token}
        """For BLS calls that are to end with this one."""
        # Datagrams: connecting needs nobody who listens and accepts, a bound name is enough.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(_address(token))

    @contextmanager
    def receiving(self, on_token: Callable[[int, int], None]) -> Iterator[None]:
        """Hand on, in another thread, what `token_sender` sends while the block runs."""
        thread = threading.Thread(target=self._receive, args=(on_token,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            # Behind all that was sent before.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, suppress(OSError):
                end.sendto(b"", self._socket.getsockname())
            thread.join()

    def _receive(self, on_token: Callable[[int, int], None]) -> None:
        with suppress(OSError):  # closed: nobody waits any more
            while message := self._socket.recv(_MAX_MESSAGE_BYTES):
                for number, token_id in _TOKEN_FORMAT.iter_unpack(message):
                    on_token(number, token_id)

    def close(self) -> None:
        """Let go; a second call does nothing."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who receives
        self._socket.close()


def cancellation_of(request: Any) -> Callable[[], bool]:
    """Return what tells whether the `front` that called an inner model has let go since."""
    token = read_parameters(request).get(_PARAMETER)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise UnsupportedError(
            "this model works for the server's own models only; call the model that is named after "
            "the family, or front"
        )
    if not _is_held(token):
        raise RequestCancelledError("nobody waits for the answer any more")
    return lambda: not _is_held(token)


def token_sender(request: Any) -> Callable[[int, int], None]:
    """Return what sends an answer's tokens to the caller of an inner model; it never waits.

    What does not fit goes along with the next one, or comes with the answer.
    """
    address = _address(read_parameters(request)[_PARAMETER])
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    unsent = bytearray()

    def send(number: int, token_id: int) -> None:
        unsent.extend(_TOKEN_FORMAT.pack(number, token_id))
        with suppress(OSError):  # its queue is full, or it is gone
            sender.sendto(unsent[:_MAX_MESSAGE_BYTES], address)
            del unsent[:_MAX_MESSAGE_BYTES]

    return send


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
    return f"\0groundserve-{hashlib.sha256(token.encode()).hexdigest()}"
