"""Files below one folder, local or in an object store, that appear whole or not at all.

On a local disk a file is written under another name, flushed, renamed, and its folder flushed. An
object store puts whole objects by itself; there a move is a copy on the server and a removal, an
exclusive creation is what the store's own client makes of it (S3 and Google's refuse the second),
and there is no lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from groundserve.batch.errors import RunDirectoryError
from groundserve.errors import InvalidRequestError, MissingExtraError, UnavailableError
from groundserve.strict_json import shown

LOCK_NAME = ".lock"
"""Held by the driver of a run."""
PARTIAL_SUFFIX = ".partial"
"""Of files that are being written."""
LOCAL_PROTOCOLS = ("file", "local")
REMOTE_PROTOCOLS = ("memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
"""Schemes of fsspec that a place may have."""


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
    """Return the scheme of a URL whose files can be read; None for a path.

    Raises:
        InvalidRequestError: It is another one.
    """
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
            raise _broken("read", self.place, folder, error) from error

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
            with _typed("read", self.place, folder):
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
        self._fs.invalidate_cache(self._at(os.path.dirname(name)))
        return int(self._fs.info(self._at(name))["size"])

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        with _typed("read", self.place, name):
            return bytes(self._fs.cat_file(self._at(name)))

    def lines(self, name: str) -> Iterator[bytes]:
        """See `Storage`."""
        with _typed("read", self.place, name), self._fs.open(self._at(name), "rb") as file:
            yield from file

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        with _typed("write", self.place, name):
            self._make_parent(name)
            self._fs.pipe_file(self._at(name), data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage`."""
        with _typed("write", self.place, name), tempfile.NamedTemporaryFile() as file:
            yield file
            file.flush()
            self._make_parent(name)
            self._fs.put_file(file.name, self._at(name))

    def create(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        with _typed("write", self.place, name):
            self._make_parent(name)
            self._fs.pipe_file(self._at(name), data, mode="create")

    def append(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        raise NotImplementedError(f"{self.place} has no appending")

    def move(self, source: str, target: str) -> None:
        """See `Storage`."""
        with _typed("write", self.place, target):
            self._make_parent(target)
            self._fs.cp_file(self._at(source), self._at(target))
            self._fs.rm_file(self._at(source))

    def delete(self, name: str) -> None:
        """See `Storage`."""
        with _typed("write", self.place, name), suppress(FileNotFoundError):
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
def _typed(verb: str, place: str, name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):  # answers, not faults
        raise
    except OSError as error:
        raise _broken(verb, place, name, error) from error


def _broken(verb: str, place: str, name: str, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(f"cannot {verb} {place}/{name}: {error.strerror or error}")


def _flush_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
