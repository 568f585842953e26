"""The video of a request: read here and uploaded, or named for the server to read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import Video, check_video, described, open_video, video_name
from groundserve.client._connection import Tensors, text_tensor
from groundserve.errors import InvalidRequestError, MediaError

_MAX_MESSAGE_BYTES = 2**31 - 2**20
"""A message of gRPC's is shorter than 2 GiB, and there is more in it than the video."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Exactly one of two ways to a video."""

    video: Video | None
    """Path or bytes; None where the server reads `video_uri`."""
    video_uri: str
    """Empty where there is a `video`."""

    @classmethod
    def parse(cls, video: object, video_uri: object) -> Self:
        """Check what a caller gave. Nothing is read.

        Raises:
            InvalidRequestError: It is not exactly one, or of another type.
        """
        if (video is None) == (video_uri is None):
            raise InvalidRequestError("give exactly one of video and video_uri")
        return cls(
            video=None if video is None else check_video(video),
            video_uri="" if video_uri is None else _check_uri(video_uri),
        )

    @property
    def name(self) -> str:
        """What a result calls the video."""
        return self.video_uri if self.video is None else video_name(self.video)

    def to_tensors(self) -> Tensors:
        """Return VIDEO or VIDEO_URI; a file is read.

        Raises:
            MediaError: There is no such file, it cannot be read, or it is too large to be sent.
        """
        if self.video is not None:
            return {"VIDEO": _read_video(self.video)}
        return {"VIDEO_URI": text_tensor(self.video_uri)}


def _check_uri(video_uri: object) -> str:
    if not isinstance(video_uri, str):
        raise InvalidRequestError(f"video_uri must be a text, got {described(video_uri)}")
    try:
        text_tensor(video_uri)
    except UnicodeEncodeError:
        raise InvalidRequestError("VIDEO_URI must be UTF-8") from None
    return video_uri


def _read_video(video: Video) -> NDArray[np.uint8]:
    if not isinstance(video, bytes):
        with open(open_video(video), "rb") as file:
            _check_size(os.fstat(file.fileno()).st_size)
            video = file.read()
    _check_size(len(video))
    return np.frombuffer(video, np.uint8)


def _check_size(size_bytes: int) -> None:
    if size_bytes == 0:
        raise MediaError("the video is empty (0 bytes)")
    if size_bytes > _MAX_MESSAGE_BYTES:
        raise MediaError(
            f"the video must be at most {_MAX_MESSAGE_BYTES} bytes to be sent, got {size_bytes}; "
            "have the server read it: video_uri=..."
        )
