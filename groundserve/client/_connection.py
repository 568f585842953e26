"""One gRPC connection: calls that begin, have their answer delivered, and can be ended."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from groundserve.triton_messages import CLASS_IN_MESSAGE, HEAD

if TYPE_CHECKING:
    import grpc

Tensors = dict[str, NDArray[Any]]
"""By name, BYTES as bytes objects."""
Answer = Any
"""What a call ends with: tritonclient's InferResult, or an exception."""
Deliver = Callable[[Answer], None]
"""Takes a call's answer, in a thread of gRPC's or ours; must not raise."""

Piece = partial
"""One piece of a text that comes in several: to be called where its caller waits."""

STREAM_MODEL = "front_stream"
"""What is called for an answer in pieces."""
MODEL = "front"
"""What is called, whatever the family. Triton tells a model that its caller is gone where that
called the model itself, and never inside an ensemble."""
_CHANNEL_OPTIONS = [
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
            import grpc
            import tritonclient.grpc
            import tritonclient.utils
        except ImportError as error:
            raise MissingExtraError("client", "tritonclient") from error
        trusted = _read_certificates(root_certificates, url=url, is_encrypted=is_encrypted)
        self.url = f"grpc{'s' * is_encrypted}://{address}"
        self._grpc = grpc
        self._triton = tritonclient.grpc
        self._utils = tritonclient.utils
        self._metadata = _checked_headers(headers)
        if is_encrypted:
            credentials = grpc.ssl_channel_credentials(trusted)
            self._channel = grpc.secure_channel(address, credentials, _CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        self._server = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
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
        head: str,
        deliver: Deliver,
        on_text: OnText | None,
    ) -> Call:
        """Prepare a call; nothing is done before its `begin`.

        Args:
            inputs: Its tensors.
            seconds: When the call is given up.
            server_seconds: When the server is to give up.
            request_id: For the server's log.
            head: What the engines are expected to be for.
            deliver: Gets what `read` takes, once, unless the call is ended before it begins;
                before that a `Piece` of text each time one comes.
            on_text: Whom these are for; None: the server sends no pieces.
        """

        def send() -> grpc.Future:
            request = self._request(inputs)
            request.model_name = MODEL if on_text is None else STREAM_MODEL
            request.id = request_id
            request.parameters["timeout"].int64_param = max(1, int(server_seconds * 1e6))
            request.parameters[CLASS_IN_MESSAGE].bool_param = True
            request.parameters[HEAD].string_param = head
            if on_text is None:
                call = self._server.ModelInfer.future(request, seconds, self._metadata)
                call.add_done_callback(lambda call: deliver(self._answer_of(call)))
                return call
            # The request is all that is sent: gRPC's thread for it ends with the iterator.
            stream = self._server.ModelStreamInfer(iter([request]), seconds, self._metadata)
            receive = partial(self._receive, stream, on_text, deliver)
            threading.Thread(target=receive, name="groundserve-text", daemon=True).start()
            return stream

        return Call(self._thread, send, deliver)

    def read(self, answer: Answer) -> Tensors:
        """Return the outputs of a call, or raise what became of it."""
        if isinstance(answer, self._utils.InferenceServerException):
            raise typed_error(answer, self.url) from answer
        if isinstance(answer, ValueError):  # gRPC's, of a closed channel
            self.check_open()
        if isinstance(answer, Exception):
            raise answer
        return {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}

    def broke(self, error: UnavailableError) -> bool:
        """Tell whether `read` raised this because the connection was lost under the call."""
        return is_broken_connection(error, self.url)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Ask whether the server and all its models are ready, in the caller's thread."""
        self.check_process()
        deadline = Deadline.after(min(timeout_seconds, _READY_SECONDS))
        messages = self._triton.service_pb2
        with suppress(self._grpc.RpcError, ValueError):  # ValueError: the channel is closed
            for ask, request in (
                (self._server.ModelReady, messages.ModelReadyRequest(name=MODEL)),
                (self._server.ServerReady, messages.ServerReadyRequest()),
            ):
                if not ask(request, deadline.remaining_seconds(), self._metadata).ready:
                    return False
            return True
        return False

    def close(self, deliver: Deliver) -> None:
        """End all calls; None is delivered when that is done."""

        def close() -> None:
            self._channel.close()
            deliver(None)

        self._is_closed = True
        self._thread.run(close)
        self._thread.close()

    def _request(self, inputs: Tensors) -> Any:
        request = self._triton.service_pb2.ModelInferRequest()
        for name, array in inputs.items():
            datatype = self._utils.np_to_triton_dtype(array.dtype)
            request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            is_text = datatype == "BYTES"
            content = (
                self._utils.serialize_byte_tensor(array).item() if is_text else array.tobytes()
            )
            request.raw_input_contents.append(content)
        return request

    def _receive(self, stream: Any, on_text: OnText, deliver: Deliver) -> None:
        """Deliver what comes of a stream, up to its answer."""
        try:
            for response in stream:
                if response.error_message:
                    deliver(self._utils.InferenceServerException(response.error_message))
                    return
                result = self._triton.InferResult(response.infer_response)
                if (piece := result.as_numpy("PART")) is None:
                    deliver(result)
                    return
                part = json.loads(piece[0])
                deliver(Piece(on_text, part["query"], part["text"]))
        except self._grpc.RpcError:
            pass  # told below
        finally:
            stream.cancel()  # which does nothing where it has ended
        deliver(self._failure_of(stream))

    def _answer_of(self, call: Any) -> Answer:
        if call.code() is self._grpc.StatusCode.OK:
            return self._triton.InferResult(call.result())
        return self._failure_of(call)

    def _failure_of(self, call: Any) -> Exception:
        failure: Exception = self._utils.InferenceServerException(call.details(), str(call.code()))
        return failure


class Call:
    """A call on its way. `begin` and `end` return at once."""

    def __init__(
        self, thread: CallThread, send: Callable[[], grpc.Future], deliver: Deliver
    ) -> None:
        self._thread = thread
        self._send = send
        self._deliver = deliver
        self._is_ended = False
        self._under_way: grpc.Future | None = None

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


def _read_certificates(
    path: str | os.PathLike[str] | None, *, url: object, is_encrypted: bool
) -> bytes | None:
    if path is None:
        return None
    if not is_encrypted:
        raise InvalidRequestError(f"root_certificates goes with grpcs://, got {described(url)}")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            f"root_certificates must be a file in PEM form, got {described(os.fspath(path))}"
        ) from error


def _checked_headers(headers: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """Return headers as gRPC wants them: names in lower case."""
    for name, value in (headers or {}).items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER.fullmatch(f"{name}: {value}"):
            raise InvalidRequestError(
                "headers must be names of letters, digits, '-', '_' and '.' with values of "
                f"printable ASCII, got the name {name!r}"
            )
    return [(name.lower(), value) for name, value in (headers or {}).items()]
