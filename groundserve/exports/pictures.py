"""The pictures of frames that a hand-over names or holds, and a folder that has them.

Shape letters: K frames.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import shown

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


def all_frames(choices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the frames of several questions, each once, increasing."""
    return np.unique(np.concatenate(choices))
