"""Files that appear as a whole or not at all, and places that can take them."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import parse_object

T = TypeVar("T")


@contextmanager
def whole_file(path: str | PathLike[str], *, is_new: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when the block ends, flushed, in place of one that has it.

    Killed at any moment the old or the new file is there as a whole, and at most a
    `.groundserve-*.partial` beside it. A link stays one, and permissions stay.

    Args:
        path: Where it is to appear.
        is_new: Whether no file may have the name: FileExistsError where one does by then.
    """
    real = Path(os.path.realpath(path))
    partial = real.with_name(f".groundserve-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            with suppress(FileNotFoundError):
                partial.chmod(stat.S_IMODE(real.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _name_new(partial, real)
        else:
            os.replace(partial, real)
        flush_names(real.parent)
    finally:
        partial.unlink(missing_ok=True)


def read_input(path: str | PathLike[str]) -> bytes:
    """Return a file's bytes; one that cannot be read is an InvalidRequestError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def filled_lines(path: str | PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file that is not blank, with its number from 1, as `read_input` does."""
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def read_objects(path: Path, kind: Callable[..., T], option: str) -> Iterator[T]:
    """Yield what `kind` makes of each line of JSON; InvalidRequestError names a bad line."""
    for number, line in filled_lines(path):
        try:
            yield kind(**parse_object(line, "the line"))
        except (TypeError, InvalidRequestError) as error:
            raise InvalidRequestError(f"{option}: {path}:{number}: {error}") from error


def flush_names(folder: str | PathLike[str]) -> None:
    """Flush a folder, so that the names in it outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: str | PathLike[str], *, is_shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file's folder (flock): a new file in the place of the old is locked, too.

    Where the file system has no such locks, nothing is held.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        yield


def append_whole(file: IO[bytes], data: bytes) -> None:
    """Add to the end of a file that is open and locked, flushed: all of it, or nothing."""
    descriptor = file.fileno()
    size = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        left = memoryview(data)
        while left:  # a second time where the disk is all but full
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError as error:  # those of writing name no file
        os.ftruncate(descriptor, size)
        raise OSError(error.errno, error.strerror, file.name) from error
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def require_writable(path: str | PathLike[str], *, is_grown: bool = False) -> None:
    """Refuse, before any work, a place that no file could be written to in the end.

    Args:
        path: Of the file.
        is_grown: Whether a file that is there is added to, in place of being replaced.

    Raises:
        InvalidRequestError: It is no file, or neither it nor its folder takes one.
    """
    real = Path(os.path.realpath(path))
    try:
        if real.exists() and not real.is_file():
            raise InvalidRequestError(f"cannot write {path}: it is no file")
        if is_grown and real.exists():
            real.open("r+b").close()
        else:
            TemporaryFile(dir=real.parent).close()  # it has no name, so nothing of it is left
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error


def _name_new(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # renaming would not see that the name is taken
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.rename(partial, path)
