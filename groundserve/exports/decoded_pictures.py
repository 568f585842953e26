"""Pictures of frames that are decoded for a hand-over.

Shape letters: K frames.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.exports.pictures import FolderPictures, Picture, Pictures
from groundserve.frame_files import file_prefix
from groundserve.frames import iterate_frames

DEFAULT_LONGEST_SIDE = 768
JPEG_QUALITY = 90
INDEX_NAME = "index.jsonl"


class DecodedPictures:
    """Pictures decoded here as JPEG: kept as bytes, or written into a new folder.

    A context: the folder appears, complete and with its index, where the block ends without an
    error; until then it has a hidden name beside.
    """

    def __init__(
        self,
        *,
        media_root: str | PathLike[str] = "",
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
        if not os.path.isdir(media_root or "."):
            raise InvalidRequestError(
                f"the videos' folder must be one of this machine, {media_root} is none; give "
                "another (--media-root), or one with their frames (--frames)"
            )
        if longest_side < 1:
            raise InvalidRequestError(f"--frames-side must be >= 1, got {longest_side}")
        if folder is not None and not os.access(folder.absolute().parent, os.W_OK | os.X_OK):
            raise InvalidRequestError(
                f"cannot make {folder}: {folder.absolute().parent} is no folder that may be "
                "written to"
            )
        self._media_root = Path(media_root)
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
                f"{place}: no video file {path}; relative names start from --media-root"
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
    folder: Path | None, *, media_root: str | PathLike[str], longest_side: int
) -> Iterator[Pictures]:
    """Take the pictures of a folder that exists; decode them where it is to be made, or None."""
    if folder is not None and os.path.lexists(folder):
        yield FolderPictures(folder)
        return
    with DecodedPictures(
        media_root=media_root, longest_side=longest_side, folder=folder
    ) as pictures:
        yield pictures


def _as_jpeg(frame: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # there: the frame was decoded with its help

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
