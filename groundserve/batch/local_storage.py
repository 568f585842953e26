"""A run's files on a local disk: each is written under another name, flushed, and renamed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from groundserve.batch.errors import cannot
from groundserve.errors import InvalidRequestError, UnavailableError

LOCK_NAME = ".lock"
"""Held by the driver of a run."""
PARTIAL_SUFFIX = ".partial"


class LocalStorage:
    """A folder of this machine, or of a network file system that looks like one."""

    is_local = True

    def __init__(self, folder: str) -> None:
        self.place = folder
        self._folder = Path(folder)
        self._lock: int | None = None

    def names(self, folder: str = "") -> list[str]:
        """See `Storage`."""
        try:
            return sorted(os.listdir(self._folder / folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise cannot("read", self.place, folder, error) from error

    def size(self, name: str) -> int:
        """See `Storage`."""
        return os.stat(self._folder / name).st_size

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        with _typed("read", self.place, name):
            return (self._folder / name).read_bytes()

    def lines(self, name: str) -> Iterator[bytes]:
        """See `Storage`."""
        with _typed("read", self.place, name), (self._folder / name).open("rb") as file:
            yield from file

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage`."""
        path = self._folder / name
        partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
        with _typed("write", self.place, name):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                with suppress(OSError):
                    partial.unlink()
                raise
            _flush_names(path.parent)

    def create(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        path = self._folder / name
        with _typed("write", self.place, name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _flush_names(path.parent)

    def append(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        path = self._folder / name
        with _typed("write", self.place, name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                left = memoryview(data)
                while left:  # a second time where the disk is all but full
                    left = left[file.write(left) or 0 :]

    def move(self, source: str, target: str) -> None:
        """See `Storage`."""
        old, new = self._folder / source, self._folder / target
        with _typed("write", self.place, target):
            new.parent.mkdir(parents=True, exist_ok=True)
            os.replace(old, new)
            _flush_names(new.parent)

    def delete(self, name: str) -> None:
        """See `Storage`."""
        path = self._folder / name
        with _typed("write", self.place, name), suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def make(self) -> None:
        """See `Storage`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):  # nothing of it is left
                pass
        except OSError as error:
            raise InvalidRequestError(
                f"cannot write to {self.place}: {error.strerror}; name another folder"
            ) from error

    def lock(self) -> None:
        """See `Storage`; where a file system has no such locks, nothing is kept away."""
        with _typed("write", self.place, LOCK_NAME):
            descriptor = os.open(
                self._folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UnavailableError(
                f"another process works on {self.place}; wait for it, or end it first"
            ) from None
        except OSError:
            pass
        self._lock = descriptor

    def unlock(self) -> None:
        """See `Storage`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def _typed(verb: str, place: str, name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):  # answers, not faults
        raise
    except OSError as error:
        raise cannot(verb, place, name, error) from error


def _flush_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
