"""One gRPC connection: calls that begin, have their answer delivered, and can be ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundserve.arguments import check_url
from groundserve.call_thread import CallThread
from groundserve.client._failures import is_broken_connection, typed_error
from groundserve.client._lines import LineCall, Lines
from groundserve.deadline import Deadline
from groundserve.errors import (
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.triton_messages import CLASS_IN_MESSAGE

if TYPE_CHECKING:
    from tritonclient.grpc import InferResult

Tensors = dict[str, NDArray[Any]]
"""By name, BYTES as bytes objects."""
Answer = Any
"""What a call ends with: tritonclient's InferResult, or an exception."""
Deliver = Callable[[Answer], None]
"""Takes a call's answer, in a thread of gRPC's or ours; must not raise."""

_CHANNEL_ARGS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was restarted is found again within a second; gRPC would wait up to 120.
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_READY_SECONDS = 10.0
"""Whoever does not say within this that it is ready is not."""


class Connection:
    """A connection to one server, for any thread of the process that made it.

    It knows no event loop: whoever waits says how the answer is delivered.
    """

    def __init__(self, url: object, *, has_lines: bool) -> None:
        """Connect lazily.

        Args:
            url: `grpc://HOST:PORT`.
            has_lines: Whether each call gets a thread and a channel that wait for it alone, where
                its caller is a thread that waits as well. Or else all share one channel, which
                any number of calls may use at one time.

        Raises:
            InvalidRequestError: The URL has another form.
            MissingExtraError: tritonclient is not installed.
        """
        address = check_url("url", url)
        try:
            import tritonclient.grpc
            import tritonclient.utils
        except ImportError as error:
            raise MissingExtraError("serve", "tritonclient") from error
        self.url = f"grpc://{address}"
        self._triton = tritonclient.grpc
        self._utils = tritonclient.utils
        connect = partial(
            tritonclient.grpc.InferenceServerClient, address, channel_args=_CHANNEL_ARGS
        )
        self._server = connect()
        self._lines = Lines(connect) if has_lines else None
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
        model_name: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        seconds: float,
        server_seconds: float,
        request_id: str,
        parameters: Mapping[str, str],
        deliver: Deliver,
    ) -> Call:
        """Prepare a call of one model; nothing is done before its `begin`.

        Args:
            model_name: The model.
            inputs: Its tensors.
            outputs: What it is to answer.
            seconds: When the call is given up.
            server_seconds: When the server is to give up.
            request_id: For the server's log.
            parameters: Of the request, beside those of every call.
            deliver: Gets what `read` takes, once, unless the call is ended before it begins.
        """

        def arguments() -> dict[str, Any]:
            return {
                "model_name": model_name,
                "inputs": [self._input(name, array) for name, array in inputs.items()],
                "outputs": [self._triton.InferRequestedOutput(name) for name in outputs],
                "request_id": request_id,
                "timeout": max(1, int(server_seconds * 1e6)),
                "client_timeout": seconds,
                "parameters": {CLASS_IN_MESSAGE: True, **parameters},
            }

        if self._lines is not None:
            return LineCall(
                self._lines, self._thread, lambda server: server.infer(**arguments()), deliver
            )

        def send() -> Any:
            return self._server.async_infer(
                callback=lambda result, error: deliver(result if error is None else error),
                **arguments(),
            )

        return CallbackCall(self._thread, send, deliver)

    def read(self, answer: Answer, outputs: Sequence[str]) -> Tensors:
        """Return the outputs of a call, or raise what became of it."""
        if isinstance(answer, self._utils.InferenceServerException):
            raise typed_error(answer, self.url) from answer
        if isinstance(answer, ValueError):  # gRPC's, of a closed channel
            self.check_open()
        if isinstance(answer, Exception):
            raise answer
        result: InferResult = answer
        return {name: result.as_numpy(name) for name in outputs}

    def broke(self, error: UnavailableError) -> bool:
        """Tell whether `read` raised this because the connection was lost under the call."""
        return is_broken_connection(error, self.url)

    def is_ready(self, groups: Iterable[Iterable[str]], timeout_seconds: float) -> bool:
        """Ask whether all models of one of the groups are loaded, in the caller's thread."""
        self.check_process()
        if self._is_closed:
            return False
        deadline = Deadline.after(min(timeout_seconds, _READY_SECONDS))
        with suppress(self._utils.InferenceServerException, ValueError):
            return any(
                all(
                    self._server.is_model_ready(name, client_timeout=deadline.remaining_seconds())
                    for name in model_names
                )
                for model_names in groups
            )
        return False  # ValueError: gRPC's, of a channel that was closed meanwhile

    def close(self, deliver: Deliver) -> None:
        """End all calls; None is delivered when that is done."""

        def close() -> None:
            self._server.close()
            if self._lines is not None:
                self._lines.close()
            deliver(None)

        self._is_closed = True
        self._thread.run(close)
        self._thread.close()

    def _input(self, name: str, array: NDArray[Any]) -> Any:
        datatype = self._utils.np_to_triton_dtype(array.dtype)
        tensor = self._triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


class Call(Protocol):
    """A call of one model. `begin` and `end` return at once."""

    def begin(self) -> None:
        """Have the request made and sent; large ones take a while."""
        ...

    def end(self) -> None:
        """Have the call cancelled, which does nothing where it was answered."""
        ...


class CallbackCall:
    """A call that a thread of gRPC's answers, one for all that are under way."""

    def __init__(self, thread: CallThread, send: Callable[[], Any], deliver: Deliver) -> None:
        self._thread = thread
        self._send = send
        self._deliver = deliver
        self._is_ended = False
        self._under_way: Any = None

    def begin(self) -> None:
        """See `Call.begin`."""
        self._thread.run(self._begin)

    def end(self) -> None:
        """See `Call.end`."""
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
