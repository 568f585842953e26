"""One request of a caller: its arguments checked, as tensors, and the answer as a result."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

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
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.spans import check_span_options

if TYPE_CHECKING:  # it brings what reads media, which is for Linux
    from groundserve.options import Head

Result = TypeVar("Result")

_MAX_MESSAGE_BYTES = 2**31 - 2**20
"""A message of gRPC's is shorter than 2 GiB, and there is more in it than the video."""


class Request(Generic[Result]):
    """What a caller of `score` or `ask` wants."""

    head: Head

    def __init__(
        self,
        *,
        video: object,
        video_uri: object,
        queries: Sequence[str],
        options: ScoreOptions | AnswerOptions,
        request_id: object,
    ) -> None:
        """Check what a caller gave; nothing is read.

        Raises:
            InvalidRequestError: An argument is of another type or breaks a rule.
        """
        if (video is None) == (video_uri is None):
            raise InvalidRequestError("give exactly one of video and video_uri")
        self.video: Video = _check_uri(video_uri) if video is None else check_video(video)
        self.is_uploaded = video is not None
        self.queries = queries
        self.request_id = _check_id(request_id)
        self._options_json = options.to_json()

    @property
    def video_name(self) -> str:
        """What a result calls the video."""
        return video_name(self.video) if self.is_uploaded else str(self.video)

    def to_tensors(self) -> Tensors:
        """Return the inputs of the call; a file is read.

        Raises:
            MediaError: There is no such file, it cannot be read, or it is too large to be sent.
        """
        tensors: Tensors = {
            "QUERY": text_tensor(*self.queries),
            "OPTIONS": text_tensor(self._options_json),
        }
        if self.is_uploaded:
            tensors["VIDEO"] = _read_video(self.video)
        else:
            tensors["VIDEO_URI"] = text_tensor(str(self.video))
        return tensors

    def to_result(self, answer: Tensors) -> Result:
        """Return what the outputs say.

        Raises:
            GroundserveError: They are not what a server of groundserve answers.
        """
        raise NotImplementedError


class ScoreRequest(Request[ScoreResult]):
    """What a caller of `score` asks."""

    head = "frames"

    def __init__(
        self,
        *,
        queries: object,
        options: object,
        span_threshold: float,
        span_gap_seconds: float,
        **given: object,
    ) -> None:
        check_span_options(span_threshold, span_gap_seconds)
        super().__init__(queries=check_queries(queries), options=check_options(options), **given)
        self._span_threshold = span_threshold
        self._span_gap_seconds = span_gap_seconds

    def to_result(self, answer: Tensors) -> ScoreResult:
        """Return the scores, and the spans that are found in them here."""
        # What gRPC gives are views that cannot be written to, which torch.from_numpy warns about,
        # and that keep their whole message in memory. A result has arrays of its own.
        names = "FRAME_INDICES", "PTS_SECONDS", "FRAME_LOGITS", "FRAME_SCORES", "SELECTED_FRAMES"
        arrays = {name.lower(): answer[name].copy() for name in names}
        return build_score_result(
            self.queries,
            video=self.video_name,
            info=VideoInfo.from_json(answer["INFO"][0]),
            **arrays,
            span_threshold=self._span_threshold,
            span_gap_seconds=self._span_gap_seconds,
            request_id=self.request_id,
        )


def _check_id(request_id: object) -> str:
    """Return the id of a request that a log can show, a new one where None."""
    if request_id is None:
        return str(uuid.uuid4())
    if not isinstance(request_id, str) or not re.fullmatch(r"[ -~]{1,64}", request_id):
        raise InvalidRequestError(
            f"request_id must be 1 to 64 printable ASCII characters, got {described(request_id)}"
        )
    return request_id


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
