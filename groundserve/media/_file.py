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


class _Seekable:
    """A file of a known size with an offset of its own."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._offset = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset and return it."""
        # SEEK_SET, and whatever else, counts from 0.
        start = {os.SEEK_CUR: self._offset, os.SEEK_END: self._size}
        self._offset = start.get(whence, 0) + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset."""
        return self._offset


class CountedFile(_Seekable):
    """Reads a descriptor, which stays the caller's, until it has read too much for nothing."""

    def __init__(self, fd: int) -> None:
        super().__init__(os.fstat(fd).st_size)
        self._fd = fd
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


class FileInMemory(_Seekable):
    """Reads uint8 (B,) where it lies; `io.BytesIO` would hold a copy of it all."""

    def __init__(self, data: memoryview) -> None:
        super().__init__(len(data))
        self._data = data

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        data = self._data[self._offset : self._offset + size].tobytes()
        self._offset += len(data)
        return data
