"""One request of a caller: its arguments checked, as tensors, and the answer as a result."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import (
    Video,
    check_options,
    check_queries,
    check_video,
    described,
    open_video,
    video_name,
)
from groundserve.client._connection import Tensors, text_tensor
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.spans import check_span_options

_MAX_MESSAGE_BYTES = 2**31 - 2**20
"""A message of gRPC's is shorter than 2 GiB, and there is more in it than the video."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller of `score` asks."""

    video: Video | None
    """Path or bytes; None where the server reads `video_uri`."""
    video_uri: str
    """Empty where there is a `video`."""
    queries: list[str]
    """Q questions, Q >= 1."""
    options: ScoreOptions
    """As given."""
    request_id: str
    """The caller's, or a new one."""
    span_threshold: float
    """See `groundserve.spans.find_spans`."""
    span_gap_seconds: float
    """See `groundserve.spans.find_spans`."""

    @classmethod
    def parse(
        cls,
        *,
        video: object,
        video_uri: object,
        queries: object,
        options: object,
        request_id: object,
        span_threshold: float,
        span_gap_seconds: float,
    ) -> Self:
        """Check what a caller gave. Nothing is read.

        Raises:
            InvalidRequestError: An argument is of another type or breaks a rule.
        """
        if (video is None) == (video_uri is None):
            raise InvalidRequestError("give exactly one of video and video_uri")
        check_span_options(span_threshold, span_gap_seconds)
        return cls(
            video=None if video is None else check_video(video),
            video_uri="" if video_uri is None else _check_uri(video_uri),
            queries=check_queries(queries),
            options=check_options(options),
            request_id=str(uuid.uuid4()) if request_id is None else _check_id(request_id),
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )

    def to_tensors(self) -> Tensors:
        """Return the inputs of the steps; a file is read.

        Raises:
            MediaError: There is no such file, it cannot be read, or it is too large to be sent.
        """
        tensors = {
            "QUERY": text_tensor(*self.queries),
            "OPTIONS": text_tensor(self.options.to_json()),
        }
        if self.video is not None:
            return tensors | {"VIDEO": _read_video(self.video)}
        return tensors | {"VIDEO_URI": text_tensor(self.video_uri)}

    def to_result(self, answer: Tensors) -> ScoreResult:
        """Return what the steps' outputs say; spans are found here.

        Raises:
            GroundserveError: INFO is not what a server of groundserve answers.
        """
        # What gRPC gives are views that cannot be written to, which torch.from_numpy warns about,
        # and that keep their whole message in memory. A result has arrays of its own.
        names = "FRAME_INDICES", "PTS_SECONDS", "FRAME_LOGITS", "FRAME_SCORES", "SELECTED_FRAMES"
        arrays = {name.lower(): answer[name].copy() for name in names}
        return build_score_result(
            self.queries,
            video=self.video_uri if self.video is None else video_name(self.video),
            info=VideoInfo.from_json(answer["INFO"][0]),
            **arrays,
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            request_id=self.request_id,
        )


def _check_uri(video_uri: object) -> str:
    if not isinstance(video_uri, str):
        raise InvalidRequestError(f"video_uri must be a text, got {described(video_uri)}")
    try:
        text_tensor(video_uri)
    except UnicodeEncodeError:
        raise InvalidRequestError("VIDEO_URI must be UTF-8") from None
    return video_uri


def _check_id(request_id: object) -> str:
    if not isinstance(request_id, str) or not re.fullmatch(r"[ -~]{1,64}", request_id):
        raise InvalidRequestError(
            f"request_id must be 1 to 64 printable ASCII characters, got {described(request_id)}"
        )
    return request_id


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
