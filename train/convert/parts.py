"""What is done already, one file for every source file; and media out of archives.

A process that is killed loses the source file it was at, and goes on with the next time it is
started. (Nothing is flushed to the disk file by file: after a power failure, start in a new
folder.)
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from groundserve.errors import InvalidRequestError
from train.files import replacing

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


Outcome = dict[str, Any]
"""`record`: one that training can use; or `bad`: what is left out, see `bad`."""


def bad(file: str, record: str, rule: str) -> Outcome:
    """Return what is left out of a source file, by an `id`, a place or the name of a member."""
    return {"bad": {"file": file, "record": record, "rule": rule}}


class Parts:
    """The outcomes of source files, in a folder for one set and source."""

    def __init__(self, folder: Path, *, about: dict[str, str]) -> None:
        self._folder = folder
        path = folder / "about.json"
        if not path.exists():
            with replacing(path) as file:
                file.write(json.dumps(about).encode())
        found = json.loads(path.read_text("utf-8"))
        # Files of two sets may have the same name, and the parts of one would pass for the other's.
        if found != about:
            raise InvalidRequestError(
                f"{folder.parent} must hold one conversion, it holds that of {found['set']} from "
                f"{found['source']}; give another folder"
            )

    def is_done(self, name: str, source: Path) -> bool:
        """Whether this source file, at its size now, was read to its end."""
        path = self._path(name)
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            # A download that went on has another size.
            return bool(json.loads(file.readline()) == _header(source))

    def write(self, name: str, source: Path, outcomes: Iterable[Outcome]) -> None:
        """Take a source file's outcomes, in order; it is done when they end without an error."""
        with replacing(self._path(name)) as file:
            file.write(json.dumps(_header(source)).encode() + b"\n")
            for outcome in outcomes:
                # Parquet has types that JSON lacks; an id that is of one becomes text.
                file.write(json.dumps(outcome, default=str).encode() + b"\n")

    def read(self, name: str) -> Iterator[Outcome]:
        """Yield what `write` was given."""
        with self._path(name).open(encoding="utf-8") as file:
            file.readline()
            yield from map(json.loads, file)

    def _path(self, name: str) -> Path:
        # As short as it can be: a file name has 255 bytes.
        return self._folder / f"{name.replace('%', '%25').replace('/', '%2F')}.jsonl"


def _header(source: Path) -> dict[str, int]:
    return {"source_bytes": source.stat().st_size}


def copy_to(path: Path, source: IO[bytes], *, num_bytes: int) -> None:
    """Write a media file, unless it is there with this size."""
    # Not compared further: it was written under another name and renamed when it was whole.
    if path.is_file() and path.stat().st_size == num_bytes:
        return
    with replacing(path) as file:
        shutil.copyfileobj(source, file, 1 << 20)


def unpack(archive: Path, folder: Path, *, name: str) -> Iterator[Outcome]:
    """Write the files of a tar or zip below a folder, under their names in it.

    Members that are neither files nor folders, or whose names lead out of the folder, are yielded
    and not written.

    Raises:
        InvalidRequestError: The archive is damaged; what came before was written.
    """
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        for member, reason in members(archive, folder):
            yield bad(name, member, reason)
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
