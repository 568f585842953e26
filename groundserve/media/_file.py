"""The files that FFmpeg reads a video from, through us.

Source: PyAV 18.1.0, av/container/pyio.py: the methods that it calls, and that an error raised in
one of them comes out of the call that made FFmpeg read.
"""

from __future__ import annotations

import os

from groundserve.errors import MediaError
from groundserve.limits import MIB

MAX_BYTES_WITHOUT_PACKET = 256 * MIB
"""Most that is read in search of one more packet of the video: more than any header takes, and
than a broadcast of 20 Mbit/s sends in 100 s without a picture. A file of 16 GiB that goes on with a
hole would otherwise be read to its end."""


class CountedFile:
    """Reads a descriptor at an offset of its own, until it has read too much for nothing."""

    def __init__(self, fd: int) -> None:
        """Read from the start of `fd`, which stays the caller's."""
        self._fd = fd
        self._offset = 0
        self._count = 0

    def restart_count(self) -> None:
        """Forget what was read: there was a packet in it, or another is looked for."""
        self._count = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end.

        Raises:
            MediaError: More than `MAX_BYTES_WITHOUT_PACKET` since the count was restarted.
        """
        # A descriptor that was sent over a socket shares its offset with the sender's; pread leaves
        # that alone.
        data = os.pread(self._fd, size, self._offset)
        self._offset += len(data)
        self._count += len(data)
        if self._count > MAX_BYTES_WITHOUT_PACKET:
            raise MediaError(
                f"the file has more than {MAX_BYTES_WITHOUT_PACKET} bytes without a frame of the "
                "video; remux it, for instance to MP4"
            )
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset and return it."""
        # SEEK_SET, and whatever else, counts from 0.
        start = {os.SEEK_CUR: self._offset, os.SEEK_END: os.fstat(self._fd).st_size}
        self._offset = start.get(whence, 0) + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset."""
        return self._offset


class FileInMemory:
    """Reads bytes where they lie; `io.BytesIO` would hold a copy of them all."""

    def __init__(self, data: memoryview) -> None:
        """Read from the start of uint8 (B,)."""
        self._data = data
        self._offset = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        data = self._data[self._offset : self._offset + size].tobytes()
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset and return it."""
        start = {os.SEEK_CUR: self._offset, os.SEEK_END: len(self._data)}
        self._offset = start.get(whence, 0) + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset."""
        return self._offset
