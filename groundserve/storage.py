"""Where videos, manifests and runs may be (paths, URLs of fsspec), and files below one folder.

On a local disk a file appears as a whole. An object store puts whole objects by itself; there a
move is a copy on the server and a removal, an exclusive creation is what the store's client makes
of it (s3fs, gcsfs and adlfs have the store refuse the second), and there is no lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    UnavailableError,
)
from groundserve.files import append_whole, flush_names, whole_file
from groundserve.strict_json import shown

LOCAL_PROTOCOLS = ("file", "local")
REMOTE_PROTOCOLS = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
"""Schemes of fsspec that a place may have."""
LOCK_NAME = ".lock"
"""Held by whoever works on a run."""
PARTIAL_SUFFIX = ".partial"
"""Ending of what a process that was killed was writing."""


class RunDirectoryError(GroundserveError):
    """The run directory cannot be written to, or no longer belongs to this driver."""


class Storage:
    """A folder of this machine, or of a network file system that looks like one.

    Names are below it, such as "log/a.jsonl". A file that is missing is a FileNotFoundError, any
    other fault a RunDirectoryError.
    """

    is_local = True
    """Whether files can be appended to, and locked."""
    _faults: type[Exception] = OSError

    def __init__(self, place: str, path: str) -> None:
        self.place = place
        self._path = path.rstrip("/")

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what lies directly in a folder, sorted; none where it is missing."""
        with suppress(FileNotFoundError), self._typed("read", folder):
            return sorted(self._list(self._at(folder)))
        return []

    def open(self, name: str) -> IO[bytes]:
        """Open a file to be read."""
        with self._typed("read", name):
            return open(self._at(name), "rb")

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with self.open(name) as file, self._typed("read", name):
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        """Put a file there as a whole, in the place of one of that name."""
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a binary file, which appears under its name when the block ends."""
        with self._changing(name), whole_file(self._at(name)) as file:
            yield file

    def create(self, name: str, data: bytes) -> None:
        """Put a file there; FileExistsError where there is one."""
        with self._changing(name):
            with open(self._at(name), "xb") as file:
                append_whole(file, data)
            flush_names(os.path.dirname(self._at(name)))

    def append(self, name: str, data: bytes) -> None:
        """Add to a file, all or nothing; of a local storage alone."""
        with self._changing(name), open(self._at(name), "ab") as file:
            append_whole(file, data)

    def move(self, source: str, target: str) -> None:
        """Give a file another name."""
        with self._changing(target):
            os.replace(self._at(source), self._at(target))
            flush_names(os.path.dirname(self._at(target)))

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all in it; nothing where it is missing."""
        path = self._at(name)
        with self._typed("write", name), suppress(FileNotFoundError):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def make(self) -> None:
        """Make the folder where it is missing; InvalidRequestError where it takes no file."""
        probe = f".writable.{os.getpid()}{PARTIAL_SUFFIX}"
        try:
            self.write(probe, b"")
            self.delete(probe)
        except (OSError, RunDirectoryError) as error:
            raise InvalidRequestError(f"{error}; name another folder") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes away, where the file system has locks; UnavailableError by one."""
        with self._typed("write", LOCK_NAME):
            file = open(self._at(LOCK_NAME), "ab")  # noqa: SIM115  # the next line's
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UnavailableError(
                    f"another process works on {self.place}; wait for it, or end it first"
                ) from None
            except OSError:
                pass
            yield

    def _list(self, path: str) -> list[str]:
        return os.listdir(path or "/")

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Make the folder of a file that is about to change."""
        with self._typed("write", name):
            os.makedirs(os.path.dirname(self._at(name)), exist_ok=True)
            yield

    @contextmanager
    def _typed(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError):  # answers, not faults
            raise
        except self._faults as error:
            reason = getattr(error, "strerror", None) or error
            raise RunDirectoryError(f"cannot {verb} {self.place}/{name}: {reason}") from error


class _RemoteStorage(Storage):
    """A prefix of an object store, through fsspec: nothing can be appended to, or locked."""

    is_local = False
    _faults = Exception  # the client of each store has errors of its own

    def __init__(self, filesystem: Any, path: str, *, place: str) -> None:
        super().__init__(place, path)
        self._fs = filesystem

    def open(self, name: str) -> IO[bytes]:
        with self._typed("read", name):
            file: IO[bytes] = self._fs.open(self._at(name), "rb")
            return file

    def write(self, name: str, data: bytes) -> None:
        with self._changing(name):
            self._fs.pipe_file(self._at(name), data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile() as file:
            yield file
            file.flush()
            with self._changing(name):
                self._fs.put_file(file.name, self._at(name))

    def create(self, name: str, data: bytes) -> None:
        with self._changing(name):
            self._fs.pipe_file(self._at(name), data, mode="create")

    def move(self, source: str, target: str) -> None:
        with self._changing(target):
            self._fs.cp_file(self._at(source), self._at(target))
            self._fs.rm_file(self._at(source))

    def delete(self, name: str) -> None:
        with self._typed("write", name), suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def _list(self, path: str) -> list[str]:
        # Listings are kept by some clients; another driver may have written meanwhile.
        self._fs.invalidate_cache(path)
        found = self._fs.ls(path, detail=False)
        # A store may list a folder as an object in itself.
        return [str(one).rstrip("/").rpartition("/")[2] for one in found if one != path]

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        with self._typed("write", name):
            # No more than a wish for most stores; the one in memory wants it.
            self._fs.makedirs(self._at(os.path.dirname(name)), exist_ok=True)
            yield


def open_storage(place: str) -> Storage:
    """Return the file system of a folder; nothing is read or written."""
    filesystem, path = split_place(place)
    if filesystem is None:
        return Storage(path, path)
    return _RemoteStorage(filesystem, path, place=place.rstrip("/"))


def split_place(place: str) -> tuple[Any | None, str]:
    """Return the fsspec file system of a place, None for this machine's, and the path in it.

    Raises:
        InvalidRequestError: The URL's scheme is unknown, or its package is not installed.
        MissingExtraError: fsspec is not installed.
    """
    scheme = check_scheme(place)
    if scheme is None:
        return None, os.path.abspath(place)
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("batch", "fsspec") from error
    if scheme in LOCAL_PROTOCOLS:
        _, path = fsspec.core.url_to_fs(place)
        return None, os.path.abspath(path)
    try:
        return fsspec.core.url_to_fs(place)  # type: ignore[no-any-return]
    except ImportError as error:  # its message names the package
        raise InvalidRequestError(f"cannot reach {scheme}:// places: {error}") from error


def check_scheme(place: str) -> str | None:
    """Return the scheme of a URL whose files can be read; None for a path."""
    scheme = scheme_of(place)
    if scheme not in (None, *LOCAL_PROTOCOLS, *REMOTE_PROTOCOLS):
        without_query = place.partition("?")[0]  # it may hold a secret
        raise InvalidRequestError(
            f"the place {shown(without_query)} must be a path or a URL of file, "
            f"{', '.join(REMOTE_PROTOCOLS)}; download what is elsewhere first"
        )
    return scheme


def scheme_of(place: str) -> str | None:
    """Return the scheme of a URL such as s3://bucket/key; None for a path."""
    scheme, separator, _ = place.partition("://")
    return scheme if separator and scheme.replace("+", "").isalnum() else None
