"""Files below one folder, local or in an object store, that appear whole or not at all.

On a local disk a file is written under another name, flushed, renamed, and its folder flushed. An
object store puts whole objects by itself; there a move is a copy on the server and a removal, an
exclusive creation is what the store's client makes of it (s3fs, gcsfs and adlfs have the store
refuse the second), and there is no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from groundserve.batch.local_storage import LocalStorage
from groundserve.batch.places import split_place
from groundserve.batch.remote_storage import RemoteStorage


class Storage(Protocol):
    """What a run directory asks of its file system; names are below it, such as "log/a.jsonl"."""

    place: str
    """The folder: absolute path, or URL."""
    is_local: bool
    """Whether files can be appended to, and locked."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what lies directly in a folder, sorted; none where it is missing."""

    def size(self, name: str) -> int:
        """Return the bytes of a file; FileNotFoundError where it is missing."""

    def read(self, name: str) -> bytes:
        """Return a file's content; FileNotFoundError where it is missing."""

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file as they are read."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file there as a whole, in the place of one of that name."""

    def writing(self, name: str) -> Any:
        """Return a context with a binary file, which appears under its name when the block ends."""

    def create(self, name: str, data: bytes) -> None:
        """Put a file there; FileExistsError where there is one."""

    def append(self, name: str, data: bytes) -> None:
        """Add to a file; of a local storage alone."""

    def move(self, source: str, target: str) -> None:
        """Give a file another name; FileNotFoundError where it is missing."""

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all in it; nothing where it is missing."""

    def make(self) -> None:
        """Make the folder where it is missing."""

    def lock(self) -> None:
        """Keep other drivers away until `unlock`, or the end of this process."""

    def unlock(self) -> None:
        """Let others in."""


def open_storage(place: str) -> Storage:
    """Return the file system of a folder; nothing is read or written.

    Args:
        place: Path, or an fsspec URL.

    Raises:
        InvalidRequestError: The URL's scheme is not one of those above.
        MissingExtraError: fsspec is not installed.
    """
    filesystem, path = split_place(place)
    if filesystem is None:
        return LocalStorage(path)
    return RemoteStorage(filesystem, path, place=place.rstrip("/"))
