"""A run's files in an object store: put as a whole, copied and removed in place of renamed."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from groundserve.batch.errors import RunDirectoryError, cannot
from groundserve.batch.local_storage import PARTIAL_SUFFIX
from groundserve.errors import InvalidRequestError


class RemoteStorage:
    """A prefix of an object store, through fsspec."""

    is_local = False

    def __init__(self, filesystem: Any, path: str, *, place: str) -> None:
        self.place = place
        self._fs = filesystem
        self._path = path.rstrip("/")

    def names(self, folder: str = "") -> list[str]:
        """See `Storage`."""
        path = self._at(folder)
        try:
            with _answered("read", self.place, folder):
                # Listings are kept by some clients; another driver may have written meanwhile.
                self._fs.invalidate_cache(path)
                found = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        # A store may list a folder as an object in itself.
        names = {str(one).rstrip("/").rpartition("/")[2] for one in found}
        return sorted(names - {path.rpartition("/")[2]} if path in found else names)

    def size(self, name: str) -> int:
        """See `Storage`."""
        with _answered("read", self.place, name):
            self._fs.invalidate_cache(self._at(os.path.dirname(name)))
            return int(self._fs.info(self._at(name))["size"])

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        with _answered("read", self.place, name):
            return bytes(self._fs.cat_file(self._at(name)))

    def lines(self, name: str) -> Iterator[bytes]:
        """See `Storage`."""
        with _answered("read", self.place, name):
            file = self._fs.open(self._at(name), "rb")
        with file:
            yield from file

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        with _answered("write", self.place, name):
            self._make_parent(name)
            self._fs.pipe_file(self._at(name), data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage`."""
        with tempfile.NamedTemporaryFile() as file:
            yield file
            file.flush()
            with _answered("write", self.place, name):
                self._make_parent(name)
                self._fs.put_file(file.name, self._at(name))

    def create(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        with _answered("write", self.place, name):
            self._make_parent(name)
            self._fs.pipe_file(self._at(name), data, mode="create")

    def append(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        raise io.UnsupportedOperation(f"{self.place} is no local folder: nothing can be appended")

    def move(self, source: str, target: str) -> None:
        """See `Storage`."""
        with _answered("write", self.place, target):
            self._make_parent(target)
            self._fs.cp_file(self._at(source), self._at(target))
            self._fs.rm_file(self._at(source))

    def delete(self, name: str) -> None:
        """See `Storage`."""
        with _answered("write", self.place, name), suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)

    def make(self) -> None:
        """See `Storage`."""
        probe = f".writable.{os.getpid()}{PARTIAL_SUFFIX}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except RunDirectoryError as error:
            raise InvalidRequestError(f"{error}; name another folder") from error

    def lock(self) -> None:
        """See `Storage`: there is none; an attempt that is overtaken stops."""

    def unlock(self) -> None:
        """See `Storage`."""

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    def _make_parent(self, name: str) -> None:
        # No more than a wish for most stores; the one in memory wants it.
        self._fs.makedirs(self._at(os.path.dirname(name)), exist_ok=True)


@contextmanager
def _answered(verb: str, place: str, name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    # The client of each store has errors of its own.
    except Exception as error:
        raise cannot(verb, place, name, error) from error
