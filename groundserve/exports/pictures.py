"""The pictures of frames that a hand-over names or holds: in a folder that has them, or decoded.

Shape letters: K frames.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.exports.options import ExportOptions
from groundserve.files import filled_lines, read_input
from groundserve.frame_files import file_prefix
from groundserve.frames import as_jpeg, data_url, iterate_frames
from groundserve.strict_json import shown

_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame as a file."""

    name: str
    """Path of the file from the folder that it lies in."""
    path: Path
    """Where the file is, or will be when the export is done."""
    content: bytes | None = None
    """What is in it; None: what the file has."""

    def data_url(self) -> str:
        """Return the picture itself as a URL."""
        content = read_input(self.path) if self.content is None else self.content
        return data_url(content, _MEDIA_TYPES[self.path.suffix.lower()])


class FolderPictures:
    """Pictures that lie in a folder, found by its indices (`*.jsonl`).

    Some 300 bytes of memory an image.
    """

    def __init__(self, folder: Path) -> None:
        """Read the indices."""
        self._folder = folder.absolute()
        self._names: dict[tuple[str, int], str] = {}
        indices = sorted(folder.glob("*.jsonl"))
        if not indices:
            raise InvalidRequestError(
                f"{folder} holds no index of frames (*.jsonl); score --frames, batch --frames and "
                "export --frames write one beside their images"
            )
        for index in indices:
            for number, line in filled_lines(index):
                self._add(line, f"{index}, line {number}")

    def require(self, video: str, *, place: str) -> None:
        """Nothing is decoded: the video may be gone."""

    def of_video(self, video: str, frames: NDArray[np.int64]) -> dict[int, Picture]:
        """Return a picture of each ordinal; `frames` is int64 (K,), increasing."""
        found = {}
        for ordinal in frames.tolist():
            name = self._names.get((video, ordinal))
            if name is None:
                raise InvalidRequestError(
                    f"{self._folder} has no image of frame {ordinal} of {video}; export the frames "
                    "that were written there, or name a new folder to have them decoded"
                )
            path = self._folder / name
            # What an index names is read, and sent to a model: never a file of another folder.
            if not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
                raise InvalidRequestError(f"{self._folder} has no file {shown(name)} of its index")
            found[ordinal] = Picture(name=name, path=path)
        return found

    def _add(self, line: bytes, where: str) -> None:
        try:
            fields = json.loads(line)
            name, video, ordinal = fields["file"], fields["video"], fields["frame_index"]
            if list(map(type, (name, video, ordinal))) != [str, str, int]:
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequestError(
                f"{where}: not an image's entry with file, video and frame_index"
            ) from error
        if Path(name).suffix.lower() not in _MEDIA_TYPES:
            raise InvalidRequestError(f"{where}: file must be PNG or JPEG, got {shown(name)}")
        self._names.setdefault((video, ordinal), name)


class DecodedPictures:
    """Pictures decoded here as JPEG: kept as bytes, or written into a folder with an index."""

    def __init__(
        self, media_root: Path, *, longest_side: int, folder: Path, hidden: Path | None
    ) -> None:
        """Take where the files will be, and where they are until then; None: bytes are kept."""
        self._media_root = media_root
        self._longest_side = longest_side
        self._folder = folder
        self._hidden = hidden
        self._index: dict[str, str] = {}

    def require(self, video: str, *, place: str) -> None:
        """Refuse a missing video, which the row at `place` names, before any is decoded."""
        path = self._media_root / video
        if not path.is_file():
            raise InvalidRequestError(
                f"{place}: no video file {path}; relative names start from --media-root"
            )

    def of_video(self, video: str, frames: NDArray[np.int64]) -> dict[int, Picture]:
        """Return a picture of each ordinal; `frames` is int64 (K,), increasing."""
        path = self._media_root / video
        prefix, found = file_prefix(path), {}
        try:
            with closing(iterate_frames(path, frames, longest_side=self._longest_side)) as decoded:
                for ordinal, frame in zip(frames.tolist(), decoded, strict=True):
                    name, content = f"{prefix}_f{ordinal:07d}.jpg", as_jpeg(frame)
                    found[ordinal] = Picture(name=name, path=self._folder / name, content=content)
                    if self._hidden is not None:
                        self._write(self._hidden / name, content)
                        entry = {"file": name, "video": video, "frame_index": ordinal}
                        self._index[name] = json.dumps(entry, ensure_ascii=False)
        except InvalidRequestError as error:
            raise type(error)(f"{video}: {error}") from error
        return found

    def _write(self, path: Path, content: bytes) -> None:
        try:
            path.write_bytes(content)
        except OSError as error:
            raise GroundserveError(
                f"cannot write frames to {self._folder}: {error.strerror}"
            ) from error

    def write_index(self) -> None:
        """Write a line for each picture."""
        assert self._hidden is not None, "there is no folder"
        text = "".join(f"{line}\n" for line in self._index.values())
        path = self._hidden / "index.jsonl"
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


Pictures = FolderPictures | DecodedPictures


@contextmanager
def open_pictures(options: ExportOptions, *, media_root: str | PathLike[str]) -> Iterator[Pictures]:
    """Take the pictures of a folder that exists; decode them where it is to be made, or None.

    A folder that is made appears, complete and with its index, where the block ends without an
    error; until then it has a hidden name beside.
    """
    folder, side = options.frames, options.frames_side
    if folder is not None and os.path.lexists(folder):
        yield FolderPictures(folder)
        return
    root = Path(media_root)
    if not root.is_dir():
        raise InvalidRequestError(
            f"the videos' folder must be one of this machine, {media_root} is none; give "
            "another (--media-root), or one with their frames (--frames)"
        )
    if folder is None:
        yield DecodedPictures(root, longest_side=side, folder=Path(), hidden=None)
        return
    folder = folder.absolute()
    hidden = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.partial")
    try:
        hidden.mkdir()
    except OSError as error:
        raise InvalidRequestError(f"cannot make {folder}: {error.strerror}") from error
    try:
        pictures = DecodedPictures(root, longest_side=side, folder=folder, hidden=hidden)
        yield pictures
        pictures.write_index()
        os.rename(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)  # nothing is left where it was renamed
