"""How far a server is with a request, for whoever knows its id on the same host.

Datagrams to a name of the kernel's own: sending never waits, and needs nobody who listens.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

OnFrames = Callable[[int, int], None]
"""Told how many frames are decoded, and how many there are to be."""

_FORMAT = struct.Struct("<ii")


def progress_sender(request_id: str) -> OnFrames:
    """Return what tells whoever called `progress_socket`, if anybody did."""

    def tell(num_done: int, num_frames: int) -> None:
        # OSError: nobody listens, or not fast enough.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(_FORMAT.pack(num_done, num_frames), _address(request_id))

    return tell


def progress_socket(request_id: str) -> socket.socket:
    """Return what `read_progress` reads; OSError where another listens for the same id."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    try:
        receiver.bind(_address(request_id))
    except OSError:
        receiver.close()
        raise
    return receiver


def read_progress(receiver: socket.socket) -> tuple[int, int]:
    """Return what was told next."""
    num_done, num_frames = _FORMAT.unpack(receiver.recv(_FORMAT.size))
    return num_done, num_frames


def _address(request_id: str) -> str:
    # The leading zero byte: a name without a file that would outlive us.
    return f"\0groundserve-progress-{hashlib.sha256(request_id.encode()).hexdigest()}"
