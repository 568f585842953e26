"""One request of a caller: its arguments checked, as tensors, and the answer as a result."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from groundserve.arguments import check_options, check_queries, described
from groundserve.client._connection import Tensors, text_tensor
from groundserve.client._source import Source
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.spans import check_span_options

if TYPE_CHECKING:  # it brings what reads media, which is for Linux
    from groundserve.options import Head

Result = TypeVar("Result", covariant=True)


class Request(Protocol[Result]):
    """What a caller of `score` or `ask` wants."""

    @property
    def head(self) -> Head:
        """Of the models that answer it."""

    @property
    def request_id(self) -> str:
        """The caller's, or a new one."""

    def to_tensors(self) -> Tensors:
        """Return the inputs of the call; a file is read.

        Raises:
            MediaError: There is no such file, it cannot be read, or it is too large to be sent.
        """

    def to_result(self, answer: Tensors) -> Result:
        """Return what the outputs say.

        Raises:
            GroundserveError: They are not what a server of groundserve answers.
        """


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What a caller of `score` asks; see `Request`."""

    source: Source
    """The video."""
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
        source = Source.parse(video, video_uri)
        check_span_options(span_threshold, span_gap_seconds)
        return cls(
            source=source,
            queries=check_queries(queries),
            options=check_options(options),
            request_id=check_id(request_id),
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )

    @property
    def head(self) -> Head:
        """See `Request.head`."""
        return "frames"

    def to_tensors(self) -> Tensors:
        """See `Request.to_tensors`."""
        return request_tensors(self.source, self.queries, self.options)

    def to_result(self, answer: Tensors) -> ScoreResult:
        """See `Request.to_result`; spans are found here."""
        # What gRPC gives are views that cannot be written to, which torch.from_numpy warns about,
        # and that keep their whole message in memory. A result has arrays of its own.
        names = "FRAME_INDICES", "PTS_SECONDS", "FRAME_LOGITS", "FRAME_SCORES", "SELECTED_FRAMES"
        arrays = {name.lower(): answer[name].copy() for name in names}
        return build_score_result(
            self.queries,
            video=self.source.name,
            info=VideoInfo.from_json(answer["INFO"][0]),
            **arrays,
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            request_id=self.request_id,
        )


def check_id(request_id: object) -> str:
    """Return the id of a request, a new one where None.

    Raises:
        InvalidRequestError: A log could not show it.
    """
    if request_id is None:
        return str(uuid.uuid4())
    if not isinstance(request_id, str) or not re.fullmatch(r"[ -~]{1,64}", request_id):
        raise InvalidRequestError(
            f"request_id must be 1 to 64 printable ASCII characters, got {described(request_id)}"
        )
    return request_id


def request_tensors(
    source: Source, queries: Sequence[str], options: ScoreOptions | AnswerOptions
) -> Tensors:
    """Return the inputs that requests of both heads have; see `Request.to_tensors`."""
    return {
        "QUERY": text_tensor(*queries),
        "OPTIONS": text_tensor(options.to_json()),
        **source.to_tensors(),
    }
