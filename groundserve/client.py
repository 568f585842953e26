"""A client of the models behind `videoitg`: one call, typed results, typed errors.

Triton tells a model that its client is gone where the client called that model itself, and never
inside an ensemble. So the steps of the ensemble are called here one after another, each answer
handed on to the next step: whatever ends a call of ours also ends the work for it.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.call_thread import CallThread
from groundserve.deadline import Deadline
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.options import ScoreOptions
from groundserve.results import ScoreResult, build_query_results
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.triton_messages import (
    INTERNAL_MESSAGE,
    OTHER_ENGINES,
    SEATS_TAKEN,
    passing_failure,
    ran_out_of_time,
)

if TYPE_CHECKING:
    from tritonclient.grpc import InferInput, InferResult

    from groundserve.frames import FrameIndices

T = TypeVar("T")

MODEL_NAME = "videoitg"
Tensors = dict[str, NDArray[Any]]
"""By name, BYTES as bytes objects."""
_SCHEME = "grpc://"
_STEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "admission": (("OPTIONS",), ("ADMITTED",)),
    "video_features": (
        ("ADMITTED", "VIDEO", "VIDEO_URI", "QUERY", "OPTIONS"),
        ("FEATURES", "FRAME_INDICES", "PTS_SECONDS", "STAGE_INFO"),
    ),
    "grounding": (("FEATURES", "QUERY", "STAGE_INFO"), ("FRAME_LOGITS", "STAGE_INFO_2")),
    "frame_selector": (
        ("FRAME_LOGITS", "FRAME_INDICES", "PTS_SECONDS", "OPTIONS", "STAGE_INFO_2"),
        ("FRAME_SCORES", "SELECTED_FRAMES", "INFO"),
    ),
}
"""The ensemble's steps, in order: inputs (either of the video's may be left out) and outputs."""
_WAKE_SECONDS = 0.5
_FIRST_WAIT_SECONDS = 0.5
_MAX_WAIT_SECONDS = 8.0
"""Between two tries of a costly video, which is sent again each time."""
_CHANNEL_ARGS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was restarted is found again within a second; gRPC would wait up to 120.
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_ERRORS: dict[str, type[GroundserveError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "UNIMPLEMENTED": UnsupportedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
}
# What Triton says with these is for its log; see `triton_messages`.
_SERVER_FAILED = ("INTERNAL", "UNKNOWN")


class Client:
    """Talks gRPC to a running server. Safe to use from several threads, not after a fork.

    The server stops working for a call that ends early: by KeyboardInterrupt, by its timeout, by
    `close`, or with this process.

    Example:
        >>> with Client("grpc://127.0.0.1:8001") as client:
        ...     result = client.score("talk.mp4", "When does she point at the chart?")
        ...     result.queries[0].selected_seconds
    """

    def __init__(
        self, url: str = "grpc://127.0.0.1:8001", *, timeout_seconds: float = 600.0
    ) -> None:
        """Connect lazily; nothing is sent before the first call.

        Args:
            url: `grpc://HOST:PORT`.
            timeout_seconds: Longest wait for one answer; also the request's deadline there.

        Raises:
            InvalidRequestError: The URL has another form, or the timeout is not above 0 and finite.
            MissingExtraError: tritonclient is not installed.
        """
        address = url.removeprefix(_SCHEME)
        if not url.startswith(_SCHEME) or not address.rpartition(":")[2].isdecimal():
            raise InvalidRequestError(f"url must be grpc://HOST:PORT, got {url!r}")
        if not 0 < timeout_seconds < math.inf:
            raise InvalidRequestError(
                f"timeout_seconds must be > 0 and finite, got {timeout_seconds}"
            )
        try:
            import tritonclient.grpc
        except ImportError as error:
            raise MissingExtraError("serve", "tritonclient") from error
        self._triton = tritonclient.grpc
        self._server = tritonclient.grpc.InferenceServerClient(address, channel_args=_CHANNEL_ARGS)
        # One thread also because tritonclient keeps the call in an attribute between beginning it
        # and telling it whom to call back: of two at once, one would get the other's answer.
        self._thread = CallThread()
        self._process_id = os.getpid()
        self._timeout_seconds = timeout_seconds

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
    ) -> ScoreResult:
        """Score the frames of one video for one or more questions.

        Args:
            video: Path of a local file, or its bytes; uploaded with the request.
            queries: One question or up to 32. The video is decoded and encoded once for all.
            options: Defaults where None.
            video_uri: Instead of `video`: a `file:` URI that the server may read.
            request_id: 1 to 64 printable ASCII characters under which the server's log is to know
                the request; a new UUID where None. Results and errors have it too.
            span_threshold: Lowest score inside a span, in [0, 1].
            span_gap_seconds: Longest gap between two runs that one span bridges.

        Raises:
            InvalidRequestError: The server (or this method) refuses the request; its subclass
                UnsupportedError where the server does not offer what is asked.
            UnavailableError: Nothing answers at the address, or the server is overloaded.
            DeadlineExceededError: No answer within the timeout.
            RequestCancelledError: The client was closed meanwhile.
            GroundserveError: The server failed.
        """
        if (video is None) == (video_uri is None):
            raise InvalidRequestError("give exactly one of video and video_uri")
        if os.getpid() != self._process_id:  # neither gRPC nor our thread came along
            raise InvalidRequestError("a Client must be used in the process that made it")
        request_id = str(uuid.uuid4()) if request_id is None else request_id
        if not re.fullmatch(r"[ -~]{1,64}", request_id):
            raise InvalidRequestError(
                f"request_id must be 1 to 64 printable ASCII characters, got {request_id[:80]!r}"
            )
        texts = [queries] if isinstance(queries, str) else list(queries)
        tensors: Tensors = {
            "QUERY": _bytes_tensor(*texts),
            "OPTIONS": _bytes_tensor((options or ScoreOptions()).to_json()),
        }
        if video_uri is not None:
            tensors["VIDEO_URI"] = _bytes_tensor(video_uri)
        else:
            tensors["VIDEO"] = _read_video(video)
        try:
            answer = self._infer_steps(tensors, request_id)
        except GroundserveError as error:
            error.request_id = request_id
            raise
        name = video_uri or ("<bytes>" if isinstance(video, bytes) else str(video))
        info = json.loads(answer["INFO"][0])
        pts_seconds = answer["PTS_SECONDS"]
        return ScoreResult(
            video=name,
            num_source_frames=info["num_source_frames"],
            fps=info["fps"],
            duration_seconds=info["duration_seconds"],
            frame_indices=answer["FRAME_INDICES"],
            pts_seconds=pts_seconds,
            num_frames=info["num_frames"],
            grid=info["grid"],
            queries=build_query_results(
                texts,
                frame_logits=answer["FRAME_LOGITS"],
                frame_scores=answer["FRAME_SCORES"],
                selected_frames=answer["SELECTED_FRAMES"],
                frame_indices=answer["FRAME_INDICES"],
                pts_seconds=pts_seconds,
                duration_seconds=info["duration_seconds"],
                span_threshold=span_threshold,
                span_gap_seconds=span_gap_seconds,
            ),
            timing_ms=info["timing_ms"],
            engine=info["engine"],
            request_id=request_id,
        )

    def frames(
        self,
        video: str | PathLike[str] | bytes,
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
        """Tell whether the server answers and has the model loaded; False once closed."""
        try:
            return bool(self._server.is_model_ready(MODEL_NAME))
        except (self._exception, ValueError):  # ValueError: gRPC's, of a closed channel
            return False

    def close(self) -> None:
        """Close the connection and cancel the calls that are under way in other threads."""
        if os.getpid() != self._process_id:  # the connection is the other process's
            return
        closed: SimpleQueue[None] = SimpleQueue()

        def close() -> None:
            self._server.close()
            closed.put(None)

        self._thread.run(close)
        _wait_for(closed)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _exception(self) -> type[Exception]:
        from tritonclient.utils import InferenceServerException

        exception: type[Exception] = InferenceServerException
        return exception

    def _infer_steps(self, tensors: Tensors, request_id: str) -> Tensors:
        """Add the outputs of all steps to the tensors; one deadline counts for all of them."""
        deadline = Deadline.after(self._timeout_seconds)
        may_begin_again = True
        wait_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                return self._infer_steps_once(tensors, deadline, request_id)
            except UnavailableError as error:
                if OTHER_ENGINES in str(error) and may_begin_again:
                    may_begin_again = False  # between two steps another server took over, once
                elif SEATS_TAKEN in str(error) and deadline.remaining_seconds() > wait_seconds:
                    # There is no queue for costly videos: waiting in one would hold what the small
                    # ones need. Waits differ, for those who ask at one time not to do so again.
                    time.sleep(wait_seconds * random.uniform(0.5, 1.0))
                    wait_seconds = min(2 * wait_seconds, _MAX_WAIT_SECONDS)
                else:
                    raise

    def _infer_steps_once(self, tensors: Tensors, deadline: Deadline, request_id: str) -> Tensors:
        for model_name, (inputs, outputs) in _STEPS.items():
            given = {name: tensors[name] for name in inputs if name in tensors}
            tensors = tensors | self._infer(model_name, given, outputs, deadline, request_id)
        return tensors

    def _infer(
        self,
        model_name: str,
        inputs: Tensors,
        outputs: Sequence[str],
        deadline: Deadline,
        request_id: str,
    ) -> Tensors:
        deadline.check()
        seconds = deadline.remaining_seconds()
        tensors = [self._input(name, array) for name, array in inputs.items()]
        answer: SimpleQueue[InferResult | Exception] = SimpleQueue()
        calls = []

        def begin() -> None:
            try:
                call = self._server.async_infer(
                    model_name,
                    tensors,
                    lambda result, error: answer.put(result if error is None else error),
                    request_id=request_id,
                    outputs=[self._triton.InferRequestedOutput(name) for name in outputs],
                    timeout=max(1, int(seconds * 1e6)),
                    client_timeout=seconds,
                )
            except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
                answer.put(error)
            else:
                calls.append(call)

        def end() -> None:
            for call in calls:
                call.cancel()  # nothing, where it has ended

        try:
            # The blocking `infer` would go on at the server after a KeyboardInterrupt.
            self._thread.run(begin)
            result = _wait_for(answer)
        finally:
            self._thread.run(end)
        if isinstance(result, self._exception):
            raise _typed_error(result) from result
        if isinstance(result, ValueError):  # gRPC's, of a closed channel
            raise RequestCancelledError("the client is closed")
        if isinstance(result, Exception):
            raise result
        return {name: result.as_numpy(name) for name in outputs}

    def _input(self, name: str, array: NDArray[Any]) -> InferInput:
        from tritonclient.utils import np_to_triton_dtype

        tensor = self._triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        return tensor


def _wait_for(queue: SimpleQueue[T]) -> T:
    """Return what is put into a queue; an interrupt ends the wait within `_WAKE_SECONDS`.

    One that comes just as a wait begins does not end that wait.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_WAKE_SECONDS)


def _read_video(video: str | PathLike[str] | bytes | None) -> NDArray[np.uint8]:
    if isinstance(video, str | PathLike):
        path = Path(video)
        try:
            video = path.read_bytes()
        except OSError as error:
            raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    return np.frombuffer(video or b"", np.uint8)


def _bytes_tensor(*texts: str) -> NDArray[np.object_]:
    # What came out of a name or an argument that is not UTF-8 is sent as it was.
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    return np.array(encoded, dtype=np.object_)


def _typed_error(error: Any) -> GroundserveError:
    """Map Triton's status onto our errors; what Triton puts before a message is dropped."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = str(error.message() or "the server gave no reason")
    message = re.sub(r"^in ensemble '.*?', ", "", message)
    message = re.sub(r"^\[request id: .*?\] ", "", message)  # the caller knows it
    if status == "CANCELLED":  # nobody but this client can have done it
        return RequestCancelledError("the request was cancelled: its client was closed")
    if failure := passing_failure(message):
        return failure
    if status in _SERVER_FAILED:
        return GroundserveError(INTERNAL_MESSAGE)
    if status == "UNAVAILABLE" and ran_out_of_time(message):  # Triton has no code for it
        return DeadlineExceededError(message)
    return _ERRORS.get(status, GroundserveError)(message)
