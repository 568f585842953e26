"""One gRPC connection: what a call holds, and what comes back."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.arguments import described, parse_url
from groundserve.client._failures import BROKE, typed_error
from groundserve.errors import (
    InvalidRequestError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.runtime.deadline import Deadline
from groundserve.triton_messages import CLASS_IN_MESSAGE, HEAD

Tensors = dict[str, NDArray[Any]]
"""By name, BYTES as bytes objects."""
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
READY_SECONDS = 10.0
"""Whoever does not say within this that it is ready is not."""


class Piece(NamedTuple):
    """One piece of a text that comes in several."""

    query: int
    text: str


class Calling(NamedTuple):
    """How a request is sent."""

    seconds: float
    server_seconds: float
    request_id: str
    head: str
    """What the engines are to be for."""
    is_streamed: bool


class Connection:
    """A connection to one server, for any thread of the process that made it."""

    def __init__(
        self,
        url: object,
        *,
        headers: Mapping[str, str] | None = None,
        root_certificates: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connect lazily; for the arguments and errors see `BaseClient`."""
        address, is_encrypted = parse_url("url", url)
        self._triton, self._utils = extras.tritonclient.grpc, extras.tritonclient.utils
        self._grpc = grpc = extras.grpc
        trusted = _read_certificates(root_certificates, url=url, is_encrypted=is_encrypted)
        self.url = f"grpc{'s' * is_encrypted}://{address}"
        self._metadata = checked_headers(headers)
        if is_encrypted:
            credentials = grpc.ssl_channel_credentials(trusted)
            self._channel = grpc.secure_channel(address, credentials, _CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        self._server = self._triton.service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._process_id = os.getpid()
        self._is_closed = False

    def check_process(self) -> None:
        """Raise InvalidRequestError after a fork: gRPC's threads did not come along."""
        if os.getpid() != self._process_id:
            raise InvalidRequestError("a client must be used in the process that made it")

    def check_open(self) -> None:
        """Raise RequestCancelledError once closed."""
        if self._is_closed:
            raise RequestCancelledError("the client is closed")

    def call(self, inputs: Tensors, how: Calling) -> Any:
        """Send a request, and return gRPC's call."""
        request = self._request(inputs)
        request.model_name = STREAM_MODEL if how.is_streamed else MODEL
        request.id = how.request_id
        request.parameters["timeout"].int64_param = max(1, int(how.server_seconds * 1e6))
        request.parameters[CLASS_IN_MESSAGE].bool_param = True
        request.parameters[HEAD].string_param = how.head
        try:
            if how.is_streamed:
                # The request is all that is sent: gRPC's thread for it ends with the iterator.
                return self._server.ModelStreamInfer(iter([request]), how.seconds, self._metadata)
            return self._server.ModelInfer.future(request, how.seconds, self._metadata)
        except ValueError:  # gRPC's, of a closed channel
            self.check_open()
            raise

    def read(self, call: Any, on_piece: Callable[[Piece], None] | None) -> Tensors:
        """Wait for the outputs of a call, or raise what became of it.

        Pieces come before them where the call is streamed, with `on_piece`.
        """
        if on_piece is None:
            is_done = threading.Event()  # without gRPC's own waits, which look ten times a second
            call.add_done_callback(lambda _: is_done.set())
            is_done.wait()
            if call.code() is self._grpc.StatusCode.OK:
                return self._outputs(call.result())
        else:
            try:
                for response in call:
                    if response.error_message:
                        raise typed_error("", response.error_message, self.url)
                    outputs = self._outputs(response.infer_response)
                    if "PART" not in outputs:
                        return outputs
                    on_piece(Piece(**json.loads(outputs["PART"][0])))
            except self._grpc.RpcError:
                pass  # told below
            finally:
                call.cancel()  # which does nothing where it has ended
        raise typed_error(call.code().name, call.details(), self.url)

    def broke(self, error: UnavailableError) -> bool:
        """Tell whether `read` raised this because the connection was lost under the call."""
        return str(error) == BROKE.format(url=self.url)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Ask whether the server and all its models are ready, in the caller's thread."""
        self.check_process()
        deadline = Deadline.after(min(timeout_seconds, READY_SECONDS))
        request = self._triton.service_pb2.ServerReadyRequest()
        if not self.ready_models([MODEL], timeout_seconds):
            return False
        with suppress(self._grpc.RpcError, ValueError):  # ValueError: the channel is closed
            seconds = deadline.remaining_seconds()
            return bool(self._server.ServerReady(request, seconds, self._metadata).ready)
        return False

    def ready_models(self, names: Iterable[str], timeout_seconds: float) -> list[str]:
        """Return those models that are ready, in the caller's thread; none where it is not so."""
        self.check_process()
        deadline = Deadline.after(min(timeout_seconds, READY_SECONDS))
        ready: list[str] = []
        with suppress(self._grpc.RpcError, ValueError):
            for name in names:
                request = self._triton.service_pb2.ModelReadyRequest(name=name)
                seconds = deadline.remaining_seconds()
                if self._server.ModelReady(request, seconds, self._metadata).ready:
                    ready.append(name)
        return ready

    def close(self) -> None:
        """End all calls; after a fork the connection is the other process's."""
        if os.getpid() == self._process_id:
            self._is_closed = True
            self._channel.close()

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

    def _outputs(self, response: Any) -> Tensors:
        result = self._triton.InferResult(response)
        return {one.name: result.as_numpy(one.name) for one in response.outputs}


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


def checked_headers(headers: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """Return headers as gRPC wants them: names in lower case."""
    for name, value in (headers or {}).items():
        is_text = isinstance(name, str) and isinstance(value, str)
        if not is_text or not _HEADER.fullmatch(f"{name}: {value}"):
            raise InvalidRequestError(
                "headers must be names of letters, digits, '-', '_' and '.' with values of "
                f"printable ASCII, got the name {name!r}"
            )
    return [(name.lower(), value) for name, value in (headers or {}).items()]
