"""The pictures of frames that a hand-over names or holds: from a folder with an index, or decoded.

Shape letters: K frames.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.frame_files import file_prefix
from groundserve.frames import iterate_frames
from groundserve.strict_json import shown

DEFAULT_LONGEST_SIDE = 768
JPEG_QUALITY = 90
INDEX_NAME = "index.jsonl"
_MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame as a file, as its bytes, or both."""

    media_type: str
    name: str = ""
    """Path of the file from the folder that it lies in."""
    path: Path | None = None
    """Where the file is, or will be when the export is done."""
    content: bytes | None = None

    def data_url(self) -> str:
        """Return the picture itself as a URL.

        Raises:
            InvalidRequestError: The file cannot be read.
        """
        content = self.content
        if content is None:
            assert self.path is not None, "a picture is a file or bytes"
            try:
                content = self.path.read_bytes()
            except OSError as error:
                raise InvalidRequestError(f"cannot read {self.path}: {error.strerror}") from error
        return f"data:{self.media_type};base64,{base64.b64encode(content).decode('ascii')}"


class Pictures(Protocol):
    """Gives the pictures of a video's frames."""

    def require(self, video: str, *, place: str) -> None:
        """See that a video is there where it will be decoded, before the first of many is.

        Raises:
            InvalidRequestError: It is not; `place` is who names it.
        """
        ...

    def of_video(self, video: str, frames: NDArray[np.int64]) -> dict[int, Picture]:
        """Return a picture of each ordinal.

        Args:
            video: As the source names it.
            frames: int64 (K,), increasing.

        Raises:
            InvalidRequestError: There is none, or the video cannot be read.
        """
        ...


class FolderPictures:
    """Pictures that lie in a folder, found by its indices (`*.jsonl`).

    Of each image some 300 bytes are in memory.
    """

    def __init__(self, folder: Path) -> None:
        """Read the indices.

        Raises:
            InvalidRequestError: There is none, or a line of one is not an entry.
        """
        self._folder = folder.absolute()
        self._names: dict[tuple[str, int], str] = {}
        indices = sorted(folder.glob("*.jsonl"))
        if not indices:
            raise InvalidRequestError(
                f"{folder} holds no index of frames (*.jsonl); score --frames, batch --frames and "
                "export --frames write one beside their images"
            )
        for index in indices:
            self._read(index)

    def require(self, video: str, *, place: str) -> None:
        """Nothing is decoded: the video may be gone."""

    def of_video(self, video: str, frames: NDArray[np.int64]) -> dict[int, Picture]:
        """See `Pictures`."""
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
            media_type = _MEDIA_TYPES[path.suffix.lower()]
            found[ordinal] = Picture(media_type=media_type, name=name, path=path)
        return found

    def _read(self, index: Path) -> None:
        try:
            lines = index.read_bytes().splitlines()
        except OSError as error:
            raise InvalidRequestError(f"cannot read {index}: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields: Any = json.loads(line)
                name, video = fields["file"], fields["video"]
                ordinal = fields["frame_index"]
                if type(ordinal) is not int or not isinstance(video, str):
                    raise TypeError
                if not isinstance(name, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidRequestError(
                    f"{index}, line {number}: not an image's entry with file, video and frame_index"
                ) from error
            if Path(name).suffix.lower() not in _MEDIA_TYPES:
                raise InvalidRequestError(
                    f"{index}, line {number}: file must be PNG or JPEG, got {shown(name)}"
                )
            self._names.setdefault((video, ordinal), name)


class DecodedPictures:
    """Pictures decoded here as JPEG: kept as bytes, or written into a new folder.

    A context: the folder appears, complete and with its index, where the block ends without an
    error; until then it has a hidden name beside.
    """

    def __init__(
        self,
        *,
        media_root: Path = Path(),
        longest_side: int = DEFAULT_LONGEST_SIDE,
        folder: Path | None = None,
    ) -> None:
        """Check the arguments; nothing is made yet.

        Args:
            media_root: Folder that relative names of videos start from.
            longest_side: Most pixels a side; larger frames are shrunk.
            folder: Where to write them; must not exist.

        Raises:
            InvalidRequestError: The media root is no folder, `longest_side` < 1, or the folder
                cannot be made.
        """
        if not media_root.is_dir():
            raise InvalidRequestError(f"media_root must be a folder, {media_root} is none")
        if longest_side < 1:
            raise InvalidRequestError(f"longest_side must be >= 1, got {longest_side}")
        if folder is not None and not os.access(folder.absolute().parent, os.W_OK | os.X_OK):
            raise InvalidRequestError(
                f"cannot make {folder}: {folder.absolute().parent} is no folder that may be "
                "written to"
            )
        self._media_root = media_root
        self._longest_side = longest_side
        self._folder = folder.absolute() if folder else None
        self._hidden: Path | None = None
        self._index: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        if self._folder is not None:
            name = f".{self._folder.name}-{secrets.token_hex(4)}.partial"
            self._hidden = self._folder.with_name(name)
            self._hidden.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hidden is None or self._folder is None:
            return
        try:
            if error is None:
                lines = (json.dumps(e, ensure_ascii=False) + "\n" for e in self._index.values())
                (self._hidden / INDEX_NAME).write_text(
                    "".join(lines), encoding="utf-8", errors="backslashreplace"
                )
                os.rename(self._hidden, self._folder)
        finally:
            shutil.rmtree(self._hidden, ignore_errors=True)  # nothing is left where it was renamed

    def require(self, video: str, *, place: str) -> None:
        """See `Pictures`."""
        path = self._media_root / video
        if not path.is_file():
            raise InvalidRequestError(
                f"{place}: no video file {path}; relative names start from media_root"
            )

    def of_video(self, video: str, frames: NDArray[np.int64]) -> dict[int, Picture]:
        """See `Pictures`."""
        path = self._media_root / video
        found = {}
        try:
            decoded = iterate_frames(path, frames, longest_side=self._longest_side)
            with closing(decoded):
                for ordinal, frame in zip(frames.tolist(), decoded, strict=True):
                    found[ordinal] = self._keep(path, video, ordinal, _as_jpeg(frame))
        except InvalidRequestError as error:
            raise type(error)(f"{video}: {error}") from error
        return found

    def _keep(self, path: Path, video: str, ordinal: int, content: bytes) -> Picture:
        if self._hidden is None or self._folder is None:
            return Picture(media_type="image/jpeg", content=content)
        name = f"{file_prefix(path)}_f{ordinal:07d}.jpg"
        try:
            (self._hidden / name).write_bytes(content)
        except OSError as error:
            raise GroundserveError(
                f"cannot write frames to {self._folder}: {error.strerror}"
            ) from error
        self._index[name] = {"file": name, "video": video, "frame_index": ordinal}
        return Picture(
            media_type="image/jpeg", name=name, path=self._folder / name, content=content
        )


@contextmanager
def open_pictures(
    folder: Path | None, *, media_root: Path, longest_side: int
) -> Iterator[Pictures]:
    """Take the pictures of a folder that exists; decode them where it is to be made, or None.

    Raises:
        InvalidRequestError: See the two classes.
    """
    if folder is not None and os.path.lexists(folder):
        yield FolderPictures(folder)
        return
    with DecodedPictures(
        media_root=media_root, longest_side=longest_side, folder=folder
    ) as pictures:
        yield pictures


def all_frames(choices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the frames of several questions, each once, increasing."""
    return np.unique(np.concatenate(choices))


def _as_jpeg(frame: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # there: the frame was decoded with its help

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
