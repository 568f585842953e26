"""The packets of a file, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from groundserve.limits import Limits
from groundserve.media._reader import PacketReader


@contextmanager
def reader_of(path: Path, limits: Limits | None = None) -> Iterator[PacketReader]:
    """Open a file as a worker does."""
    with (
        path.open("rb") as file,
        closing(PacketReader(file.fileno(), limits or Limits())) as reader,
    ):
        yield reader
