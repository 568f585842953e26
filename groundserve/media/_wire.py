"""Messages between the caller's process and a worker: JSON and raw arrays, never pickle.

A message is 8 bytes (length of the header), the header (JSON: the fields, and each array's name,
dtype and shape), then the arrays' bytes in that order. A descriptor may ride on the first 8 bytes.
Both sides check what they receive: the worker's memory may be in an attacker's hands.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PREFIX = struct.Struct("<Q")
_MAX_HEADER_BYTES = 64 * 1024
_DTYPES = {"bool", "int32", "int64", "uint8", "float64"}


class WireError(Exception):
    """The peer is gone, or sent something that is not a message."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """What one side says to the other."""

    fields: dict[str, Any]
    """Anything JSON can hold."""
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """Of the dtypes above."""


def send_message(peer: socket.socket, message: Message, fd: int | None = None) -> None:
    """Send a message, and with it a copy of a descriptor.

    Raises:
        WireError: The peer is gone.
        TimeoutError: The socket's timeout.
    """
    layout = [[name, a.dtype.name, a.shape] for name, a in message.arrays.items()]
    header = json.dumps({"fields": message.fields, "arrays": layout}).encode()
    try:
        socket.send_fds(peer, [_PREFIX.pack(len(header))], [] if fd is None else [fd])
        peer.sendall(header)
        for array in message.arrays.values():
            peer.sendall(memoryview(np.ascontiguousarray(array)).cast("B"))
    except ConnectionError as error:
        raise WireError("the peer is gone") from error


def receive_message(peer: socket.socket, *, max_bytes: int) -> Message:
    """Receive a message whose arrays take at most `max_bytes` together; a descriptor is dropped.

    Raises:
        WireError: The peer is gone, or sent something else.
        TimeoutError: The socket's timeout.
    """
    return _receive_rest(peer, _receive_bytes(peer, _PREFIX.size), max_bytes)


def receive_message_and_fd(
    peer: socket.socket, *, max_bytes: int
) -> tuple[Message, int | None]:
    """Like `receive_message`; the descriptor becomes the caller's."""
    prefix, fds, _, _ = socket.recv_fds(peer, _PREFIX.size, 1)
    try:
        prefix += _receive_bytes(peer, _PREFIX.size - len(prefix)) if prefix else b""
        return _receive_rest(peer, prefix, max_bytes), fds[0] if fds else None
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _receive_rest(peer: socket.socket, prefix: bytes, max_bytes: int) -> Message:
    if len(prefix) != _PREFIX.size:
        raise WireError("the peer is gone")
    (header_bytes,) = _PREFIX.unpack(prefix)
    if header_bytes > _MAX_HEADER_BYTES:
        raise WireError(f"a header of {header_bytes} bytes")
    try:
        header = json.loads(_receive_bytes(peer, header_bytes))
        layout = [_check_layout(*entry) for entry in header["arrays"]]
        fields = dict(header["fields"])
    except (ValueError, LookupError, TypeError) as error:
        raise WireError("a malformed header") from error
    if sum(np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in layout) > max_bytes:
        raise WireError(f"arrays of more than {max_bytes} bytes")
    arrays = {name: _receive_array(peer, dtype, shape) for name, dtype, shape in layout}
    return Message(fields=fields, arrays=arrays)


def _check_layout(name: str, dtype: str, shape: list[int]) -> tuple[str, str, tuple[int, ...]]:
    if dtype not in _DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError("an array of another kind")
    return name, dtype, tuple(shape)


def _receive_array(
    peer: socket.socket, dtype: str, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    array: NDArray[np.generic] = np.empty(shape, dtype)
    if array.nbytes:
        _receive_into(peer, memoryview(array.reshape(-1).view(np.uint8)))
    return array


def _receive_bytes(peer: socket.socket, num_bytes: int) -> bytes:
    buffer = bytearray(num_bytes)
    _receive_into(peer, memoryview(buffer))
    return bytes(buffer)


def _receive_into(peer: socket.socket, view: memoryview) -> None:
    while view:
        try:
            received = peer.recv_into(view)
        except ConnectionError as error:
            raise WireError("the peer is gone") from error
        if received == 0:
            raise WireError("the peer is gone")
        view = view[received:]
