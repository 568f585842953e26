"""Messages between the caller's process and a worker: JSON and raw arrays, never pickle.

A message is 8 bytes (length of the header), the header (JSON: the fields, and each array's name,
dtype and shape), then the arrays' bytes in that order. A descriptor may ride on the first 8 bytes.
What is received is checked: the worker's memory may be in the hands of whoever made the video.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline

P = ParamSpec("P")
T = TypeVar("T")

_PREFIX = struct.Struct("<Q")
_MAX_HEADER_BYTES = 64 * 1024
# No object dtype: its elements are addresses, which must never come from another process.
_DTYPES = {"bool", "float64", "int32", "int64", "uint8"}


def targets_name(output: int) -> str:
    """Name the array of `FrameOutput.targets` of one output."""
    return f"targets_{output}"


def frames_name(output: int) -> str:
    """Name the array of frames that is made for one output."""
    return f"frames_{output}"


class WireError(Exception):
    """The peer is gone, or sent something that is not a message."""


class NotReceivedError(WireError):
    """The peer is gone and did not read all that was sent, so it has not begun to act on it.

    Linux tells: a socket closed with unread bytes resets the other end, one that is merely closed
    gives it an end of file.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """What one side says to the other."""

    fields: dict[str, Any]
    """Anything JSON can hold."""
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Of bool, float64, int32, int64 or uint8."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays, which are copied into the socket and out of it."""
        return sum(array.nbytes for array in self.arrays.values())


class Channel:
    """One end of the socket.

    Every method raises WireError, and what `Deadline.check` raises.
    """

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._deadline: Deadline | None = None

    def close(self) -> None:
        """Close the socket, which ends the worker."""
        self._peer.close()

    def send(
        self, message: Message, fd: int | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Send a message, and with it a copy of a descriptor, which stays the caller's."""
        self._deadline = deadline
        layout = [[name, a.dtype.name, a.shape] for name, a in message.arrays.items()]
        header = json.dumps({"fields": message.fields, "arrays": layout}).encode()
        prefix, fds = _PREFIX.pack(len(header)), [] if fd is None else [fd]
        self._when_ready(socket.send_fds, self._peer, [prefix], fds)
        self._send_bytes(memoryview(header))
        for array in message.arrays.values():
            # An array without elements cannot be cast to bytes.
            if array.nbytes:
                self._send_bytes(np.ascontiguousarray(array).data.cast("B"))

    def receive(self, *, max_bytes: int, deadline: Deadline | None = None) -> Message:
        """Receive a message without a descriptor.

        Arrays of more than `max_bytes` together are refused before memory is taken.
        """
        self._deadline = deadline
        return self._receive_rest(self._receive_bytes(_PREFIX.size), max_bytes)

    def receive_with_fd(self, *, max_bytes: int) -> tuple[Message, int | None]:
        """Receive a message and the descriptor sent with it, which becomes the caller's."""
        prefix, fds, _, _ = socket.recv_fds(self._peer, _PREFIX.size, 1)
        try:
            # A stream may bring fewer bytes than asked for; the descriptor comes with the first of
            # them.
            prefix += self._receive_bytes(_PREFIX.size - len(prefix))
            return self._receive_rest(prefix, max_bytes), fds[0] if fds else None
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def _receive_rest(self, prefix: bytes, max_bytes: int) -> Message:
        (header_bytes,) = _PREFIX.unpack(prefix)
        if header_bytes > _MAX_HEADER_BYTES:
            raise WireError(f"a header of {header_bytes} bytes")
        fields, layout = _parse_header(self._receive_bytes(header_bytes))
        # Python's integers, which do not wrap around as a product of int64 would.
        total = sum(np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in layout)
        if total > max_bytes:
            raise WireError(f"arrays of {total} bytes, more than {max_bytes}")
        arrays = {name: self._receive_array(dtype, shape) for name, dtype, shape in layout}
        return Message(fields=fields, arrays=arrays)

    def _receive_array(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        array = np.empty(shape, dtype)
        # Bytes go straight into the array, never through a copy.
        self._receive_into(array.reshape(-1).view(np.uint8).data)
        return array

    def _receive_bytes(self, num_bytes: int) -> bytes:
        buffer = bytearray(num_bytes)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, view: memoryview) -> None:
        while view:
            received = self._when_ready(self._peer.recv_into, view)
            if received == 0:
                raise WireError("the peer is gone")
            view = view[received:]

    def _send_bytes(self, view: memoryview) -> None:
        while view:
            view = view[self._when_ready(self._peer.send, view) :]

    def _when_ready(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what waits for the peer; at the end of each turn the deadline is looked at."""
        while True:
            self._peer.settimeout(self._deadline.wait_seconds() if self._deadline else None)
            with suppress(TimeoutError), _not_received():
                return operation(*args, **kwargs)


@contextmanager
def _not_received() -> Iterator[None]:
    try:
        yield
    # ECONNRESET and EPIPE, as opposed to an end of file: see `NotReceivedError`.
    except ConnectionError as error:
        raise NotReceivedError("the peer is gone") from error


def _parse_header(text: bytes) -> tuple[dict[str, Any], list[tuple[str, str, tuple[int, ...]]]]:
    try:
        header = json.loads(text)
        return dict(header["fields"]), [_check_layout(*entry) for entry in header["arrays"]]
    except (ValueError, LookupError, TypeError) as error:
        raise WireError("a malformed header") from error


def _check_layout(name: str, dtype: str, shape: list[int]) -> tuple[str, str, tuple[int, ...]]:
    if dtype not in _DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array of another kind")
    return name, dtype, tuple(shape)


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Fixed for a worker's life."""

    address_space_bytes: int
    """`RLIMIT_AS`: virtual memory."""
    num_threads: int
    limits: Limits

    def to_json(self) -> str:
        """Render as one command-line argument."""
        return json.dumps(vars(self) | {"limits": vars(self.limits)})

    @classmethod
    def from_json(cls, text: str) -> WorkerConfig:
        """Read `to_json`'s text."""
        # No checks: the text comes from `to_json` in the process that starts this one.
        fields = json.loads(text)
        return cls(**fields | {"limits": Limits(**fields["limits"])})
