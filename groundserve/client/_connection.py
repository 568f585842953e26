"""One gRPC connection: calls that begin, have their answer delivered, and can be ended."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import OnText
from groundserve.arguments import described, parse_url
from groundserve.client._failures import is_broken_connection, typed_error
from groundserve.errors import (
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.runtime.call_thread import CallThread
from groundserve.runtime.deadline import Deadline
from groundserve.triton_messages import CLASS_IN_MESSAGE

if TYPE_CHECKING:
    from tritonclient.grpc import InferResult

Tensors = dict[str, NDArray[Any]]
"""By name, BYTES as bytes objects."""
Answer = Any
"""What a call ends with: tritonclient's InferResult, or an exception."""
Deliver = Callable[[Answer], None]
"""Takes a call's answer, in a thread of gRPC's or ours; must not raise."""

Piece = partial
"""Of a text that comes in pieces: to be called where its caller waits."""

STREAM_MODEL = "front_stream"
"""What is called for an answer in pieces."""
MODEL = "front"
"""What is called, whatever the family. Triton tells a model that its caller is gone where that
called the model itself, and never inside an ensemble."""
_CHANNEL_ARGS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was restarted is found again within a second; gRPC would wait up to 120.
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_HEADER = re.compile(r"[0-9A-Za-z_.-]+: [ -~]*")
_READY_SECONDS = 10.0
"""Whoever does not say within this that it is ready is not."""


class Connection:
    """A connection to one server, for any thread of the process that made it.

    It knows no event loop: whoever waits says how the answer is delivered.
    """

    def __init__(
        self,
        url: object,
        *,
        headers: Mapping[str, str] | None = None,
        root_certificates: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connect lazily; for the arguments and errors see `BaseClient`."""
        address, is_encrypted = parse_url("url", url)
        try:
            import tritonclient.grpc
            import tritonclient.utils
        except ImportError as error:
            raise MissingExtraError("client", "tritonclient") from error
        if root_certificates is not None:
            if not is_encrypted:
                raise InvalidRequestError(
                    f"root_certificates goes with grpcs://, got {described(url)}"
                )
            if not Path(root_certificates).is_file():
                raise InvalidRequestError(
                    f"root_certificates must be a file in PEM form, got "
                    f"{described(os.fspath(root_certificates))}"
                )
        self.url = f"grpc{'s' * is_encrypted}://{address}"
        self._triton = tritonclient.grpc
        self._utils = tritonclient.utils
        self._headers = _checked_headers(headers)
        self._connect = partial(
            tritonclient.grpc.InferenceServerClient,
            address,
            ssl=is_encrypted,
            root_certificates=root_certificates and os.fspath(root_certificates),
            channel_args=_CHANNEL_ARGS,
        )
        self._server = self._connect()
        self._streams: WeakSet[_Stream] = WeakSet()
        # One thread also because tritonclient keeps the call in an attribute between beginning it
        # and telling it whom to call back: of two at once, one would get the other's answer.
        self._thread = CallThread()
        self._process_id = os.getpid()
        self._is_closed = False

    @property
    def is_of_this_process(self) -> bool:
        """False after a fork: neither gRPC nor our thread came along."""
        return os.getpid() == self._process_id

    def check_process(self) -> None:
        """Raise InvalidRequestError after a fork."""
        if not self.is_of_this_process:
            raise InvalidRequestError("a client must be used in the process that made it")

    def check_open(self) -> None:
        """Raise RequestCancelledError once closed."""
        if self._is_closed:
            raise RequestCancelledError("the client is closed")

    def call(
        self,
        inputs: Tensors,
        *,
        seconds: float,
        server_seconds: float,
        request_id: str,
        parameters: Mapping[str, str],
        deliver: Deliver,
        on_text: OnText | None,
    ) -> Call:
        """Prepare a call; nothing is done before its `begin`.

        Args:
            inputs: Its tensors.
            seconds: When the call is given up.
            server_seconds: When the server is to give up.
            request_id: For the server's log.
            parameters: Of the request, beside those of every call.
            deliver: Gets what `read` takes, once, unless the call is ended before it begins;
                before that a `Piece` of text each time one comes.
            on_text: Whom these are for; None: the server sends no pieces.
        """

        def request() -> dict[str, Any]:
            return {
                "inputs": [self._input(name, array) for name, array in inputs.items()],
                "request_id": request_id,
                "timeout": max(1, int(server_seconds * 1e6)),
                "parameters": {CLASS_IN_MESSAGE: True, **parameters},
            }

        def send() -> Any:
            return self._server.async_infer(
                MODEL,
                callback=lambda result, error: deliver(result if error is None else error),
                client_timeout=seconds,
                headers=self._headers,
                **request(),
            )

        def send_streamed(on_text: OnText) -> Any:
            stream = _Stream(self._connect(), self._thread)
            self._streams.add(stream)

            def take(result: Any, error: Any) -> None:
                piece = None if error is not None else result.as_numpy("PART")
                if piece is not None:
                    part = json.loads(piece[0])
                    deliver(Piece(on_text, part["query"], part["text"]))
                else:
                    deliver(result if error is None else error)
                    stream.end()

            stream.server.start_stream(take, stream_timeout=seconds, headers=self._headers)
            stream.server.async_stream_infer(STREAM_MODEL, **request())
            return stream

        return Call(self._thread, partial(send_streamed, on_text) if on_text else send, deliver)

    def read(self, answer: Answer) -> Tensors:
        """Return the outputs of a call, or raise what became of it."""
        if isinstance(answer, self._utils.InferenceServerException):
            raise typed_error(answer, self.url) from answer
        if isinstance(answer, ValueError):  # gRPC's, of a closed channel
            self.check_open()
        if isinstance(answer, Exception):
            raise answer
        result: InferResult = answer
        return {one.name: result.as_numpy(one.name) for one in result.get_response().outputs}

    def broke(self, error: UnavailableError) -> bool:
        """Tell whether `read` raised this because the connection was lost under the call."""
        return is_broken_connection(error, self.url)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Ask whether the server and all its models are ready, in the caller's thread."""
        self.check_process()
        if self._is_closed:
            return False
        deadline = Deadline.after(min(timeout_seconds, _READY_SECONDS))
        with suppress(self._utils.InferenceServerException, ValueError):
            ask = {"headers": self._headers, "client_timeout": deadline.remaining_seconds()}
            return bool(
                self._server.is_model_ready(MODEL, **ask) and self._server.is_server_ready(**ask)
            )
        return False  # ValueError: gRPC's, of a channel that was closed meanwhile

    def close(self, deliver: Deliver) -> None:
        """End all calls; None is delivered when that is done."""

        def close() -> None:
            self._server.close()
            for stream in list(self._streams):
                stream.cancel()
            deliver(None)

        self._is_closed = True
        self._thread.run(close)
        self._thread.close()

    def _input(self, name: str, array: NDArray[Any]) -> Any:
        datatype = self._utils.np_to_triton_dtype(array.dtype)
        tensor = self._triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


class _Stream:
    """A call whose answer comes in pieces, on a channel of its own: tritonclient has one each."""

    def __init__(self, server: Any, thread: CallThread) -> None:
        self.server = server
        self._thread = thread

    def cancel(self) -> None:
        """End it."""
        stream = self.server._stream
        self.server.stop_stream(cancel_requests=True)
        if stream is not None:
            # A cancelled one leaves gRPC's thread waiting for good for a next request, with this
            # one in hand: twice the video's bytes.
            stream._request_queue.put(None)
        self.server.close()

    def end(self) -> None:
        """The same in another thread: it waits for the one that delivers."""
        self._thread.run(self.cancel)


class Call:
    """A call on its way. `begin` and `end` return at once."""

    def __init__(self, thread: CallThread, send: Callable[[], Any], deliver: Deliver) -> None:
        self._thread = thread
        self._send = send
        self._deliver = deliver
        self._is_ended = False
        self._under_way: Any = None

    def begin(self) -> None:
        """Have the request made and sent; large ones take a while."""
        self._thread.run(self._begin)

    def end(self) -> None:
        """Have the call cancelled, which does nothing where it was answered."""
        self._is_ended = True
        self._thread.run(self._cancel)

    def _begin(self) -> None:
        if self._is_ended:
            return
        try:
            self._under_way = self._send()
        except Exception as error:  # noqa: BLE001 - raised by `read`, where the answer is waited for
            self._deliver(error)

    def _cancel(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()


def text_tensor(*texts: str) -> NDArray[np.object_]:
    """Return BYTES (n,); what came out of a name that is not UTF-8 is sent as it was."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    return np.array(encoded, dtype=np.object_)


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return headers as gRPC wants them: names in lower case."""
    for name, value in (headers or {}).items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER.fullmatch(f"{name}: {value}"):
            raise InvalidRequestError(
                "headers must be names of letters, digits, '-', '_' and '.' with values of "
                f"printable ASCII, got the name {name!r}"
            )
    return {name.lower(): value for name, value in headers.items()} if headers else None
