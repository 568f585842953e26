"""Media out of archives, which are read from front to back once."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from groundserve.errors import InvalidRequestError
from train.convert.parts import BadRecord, copy_to

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def unpack(archive: Path, folder: Path, *, name: str) -> Iterator[BadRecord]:
    """Write the files of a tar or zip below a folder, under their names in it.

    Yields:
        Members that are neither files nor folders, or whose names lead out of the folder; they are
        not written.

    Raises:
        InvalidRequestError: The archive is damaged; what came before was written.
    """
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        for member, reason in members(archive, folder):
            yield BadRecord(file=name, record=member, rule=reason)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,  # a damaged stream inside a zip or tar.gz
        EOFError,  # one that is cut short
        OSError,  # also a full disk
        RuntimeError,  # a zip that is encrypted, or compressed in a way that Python lacks
    ) as error:
        raise InvalidRequestError(
            f"cannot unpack {archive}: {error}; download it again, or make room"
        ) from error


def _tar_members(archive: Path, folder: Path) -> Iterator[tuple[str, str]]:
    # A stream, of whatever compression: without an index, going back would mean to unpack anew.
    with tarfile.open(archive, mode="r|*") as tar:
        for member in tar:
            if member.isdir():
                continue
            # Regular files only: a link's content stands elsewhere in the archive, where a stream
            # does not go back to.
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                yield member.name, "a member must be a file or a folder, it is a link or device"
            elif not _stays_inside(member.name):
                yield member.name, "a member's path must be relative and without '..'"
            else:
                # Not `extract`: it would set modes and times, and leave half a file where it is
                # killed.
                copy_to(folder / member.name, content, num_bytes=member.size)


def _zip_members(archive: Path, folder: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(archive) as zip_file:
        for member in zip_file.infolist():
            if member.is_dir():
                continue
            if not _stays_inside(member.filename):
                yield member.filename, "a member's path must be relative and without '..'"
                continue
            with zip_file.open(member) as content:
                copy_to(folder / member.filename, content, num_bytes=member.file_size)


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    # Judged by the name alone, before anything is on the disk that it could resolve to.
    return not path.is_absolute() and ".." not in path.parts
