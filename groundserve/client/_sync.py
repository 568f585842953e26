"""The client of threads: each call blocks its caller."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import AnswerResult, OnText
from groundserve.arguments import Video
from groundserve.client._answer_request import AnswerRequest
from groundserve.client._base import BaseClient
from groundserve.client._connection import Piece
from groundserve.client._exchange import Arrival
from groundserve.client._request import Request, Result, ScoreRequest
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

if TYPE_CHECKING:
    from groundserve.frames import FrameIndices

_WAKE_SECONDS = 0.5


class Client(BaseClient):
    """Talks gRPC to a running server, or HTTP to a gateway.

    Safe to use from several threads, not after a fork.

    The server stops working for a call that ends early: by KeyboardInterrupt, by its timeout, by
    `close`, or with this process.

    Examples:
        >>> with Client("grpc://127.0.0.1:8001") as client:
        ...     result = client.score("talk.mp4", "When does she point at the chart?")
        ...     result.queries[0].selected_seconds
    """

    def score(
        self,
        video: str | PathLike[str] | bytes | None = None,
        queries: str | Sequence[str] = (),
        options: ScoreOptions | None = None,
        *,
        video_uri: str | None = None,
        request_id: str | None = None,
        span_threshold: float = DEFAULT_SPAN_THRESHOLD,
        span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS,
        timeout_seconds: float | None = None,
    ) -> ScoreResult:
        """Score the frames of one video for one or more questions.

        Args:
            video: Path of a local file, or its bytes; uploaded with the request.
            queries: One question or up to 32. The video is decoded and encoded once for all.
            options: Defaults where None.
            video_uri: Instead of `video`: a `file:` URI that the server may read; of a gateway an
                https URL that it may fetch, or the id of a video that was uploaded.
            request_id: 1 to 64 printable ASCII characters under which the server's log is to know
                the request; a new UUID where None. Results and errors have it too.
            span_threshold: Lowest score inside a span, in [0, 1].
            span_gap_seconds: Longest gap between two runs that one span bridges.
            timeout_seconds: Longest time this call may take; the client's where None.

        Raises:
            InvalidRequestError: The server (or this method) refuses the request; its subclass
                MediaError where the video cannot be read, UnsupportedError where the server does
                not offer what is asked.
            UnavailableError: Nothing answers at the address, or the server is overloaded.
            DeadlineExceededError: No answer within the timeout.
            RequestCancelledError: The client is closed, or was meanwhile.
            GroundserveError: The server failed.
        """
        request = ScoreRequest(
            video=video,
            video_uri=video_uri,
            queries=queries,
            options=options,
            request_id=request_id,
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )
        return self._send(request, timeout_seconds)

    def ask(
        self,
        video: str | PathLike[str] | bytes | None = None,
        queries: str | Sequence[str] = (),
        options: AnswerOptions | None = None,
        *,
        video_uri: str | None = None,
        request_id: str | None = None,
        on_text: OnText | None = None,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Answer one or more questions about one video in text, with its times.

        Args:
            video: Path of a local file, or its bytes; uploaded with the request.
            queries: One question or up to 32. The video is decoded and encoded once for all, and
                what stands before the question in each prompt is computed once. None for a task
                that takes none.
            options: Defaults where None.
            video_uri: Instead of `video`: see `score`.
            request_id: See `score`.
            on_text: Told the text of the answers as it comes; see `OnText`. Called here, while this
                waits.
            timeout_seconds: Longest time this call may take; the client's where None. An answer
                that is not complete when it is nearly over comes as far as it is; its
                `stop_reason` says so.

        Raises:
            GroundserveError: As `score`, each class for the same fault.
        """
        request = AnswerRequest(
            video=video,
            video_uri=video_uri,
            queries=queries,
            options=options,
            request_id=request_id,
        )
        return self._send(request, timeout_seconds, on_text)

    def frames(
        self,
        video: Video,
        frame_indices: FrameIndices,
        *,
        longest_side: int | None = None,
    ) -> NDArray[np.uint8]:
        """Decode frames of a local video, such as `QueryResult.selected_frames`, without a server.

        Returns:
            uint8 (K, H, W, 3), RGB, in time order; see `groundserve.frames.read_frames`, also for
            the arguments and the errors.
        """
        # Media code is for Linux; scoring on a server is for any client.
        from groundserve.frames import read_frames

        return read_frames(video, frame_indices, longest_side=longest_side)

    def is_ready(self) -> bool:
        """Tell whether the server answers, within 10 s, and all its models are ready.

        False once closed.
        """
        return self._connection.is_ready(self._timeout_seconds)

    def families(self) -> tuple[str, ...]:
        """Return the families of its engines, such as "videoitg"; none where it is not ready."""
        # What it brings reads media, which is for Linux.
        from groundserve.families import family_names

        if not self._connection.is_ready(self._timeout_seconds):
            return ()
        return tuple(self._connection.ready_models(family_names(), self._timeout_seconds))

    def close(self) -> None:
        """Close the connection and cancel the calls that are under way in other threads."""
        # In another thread, which an interrupt cannot reach: see `_exchange`.
        closing = threading.Thread(target=self._connection.close, daemon=True)
        closing.start()
        closing.join()

    def _send(
        self,
        request: Request[Result],
        timeout_seconds: float | None,
        on_text: OnText | None = None,
    ) -> Result:
        arrivals: SimpleQueue[Arrival] = SimpleQueue()
        exchange = self._exchange(request, arrivals.put, timeout_seconds, on_text)
        try:
            exchange.start()
            while isinstance(arrival := _wait_for(arrivals), Piece):
                assert on_text is not None, "or the server sends no pieces"
                on_text(*arrival)
        except BaseException:
            exchange.cancel()
            raise
        result: Result = arrival.result()
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait_for(queue: SimpleQueue[Arrival]) -> Arrival:
    """Return what is put into a queue; an interrupt ends the wait within `_WAKE_SECONDS`.

    One that comes just as a wait begins does not end that wait.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_WAKE_SECONDS)
