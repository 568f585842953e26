"""Between Triton's requests and plain arrays: read, respond, reject, call."""

from __future__ import annotations

# The stub of 2.51 imports it at its first request: out of descriptors, the caller got a traceback.
import asyncio  # noqa: F401
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

from groundserve import extras
from groundserve.errors import GroundserveError
from groundserve.limits import Limits
from groundserve.runtime.deadline import Deadline
from groundserve.triton_messages import CLASS_IN_MESSAGE
from python_backend.arrays import Array, to_host
from python_backend.triton._cancellation import CancellationToken, cancellation_of
from python_backend.triton._errors import (
    INTERNAL,
    code_and_message,
    from_classed_message,
    to_classed_message,
    typed,
)
from python_backend.triton._redact import describe_failure
from python_backend.triton._tensors import Tensors, read_parameters, read_request_id

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_REQUEST_SECONDS = 60.0
"""For a request that has no timeout, as most over HTTP have none. Triton tells nobody that a caller
over HTTP, or of an ensemble, has left: the work goes on until then."""


def answer_each(
    requests: list[Any],
    handle: Callable[[Tensors, Deadline], Tensors],
    *,
    limits: Limits,
    stay_on_gpu: Collection[str] = (),
) -> list[Any]:
    """Answer BLS calls one by one; one that fails takes no other with it, and order is kept."""

    def handle_one(request: Any) -> Tensors:
        deadline = read_deadline(request, limits, is_cancelled=cancellation_of(request))
        return handle(read_tensors(request, stay_on_gpu=stay_on_gpu), deadline)

    return [answer(request, attempt(handle_one, request)) for request in requests]


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """Return what the call returns, or what it raises as one of our errors where it is one."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - a raise in execute would show the caller a traceback
        return typed(error)


def answer(request: Any, result: Tensors | Exception) -> Any:
    """Return the response with these outputs, or the one with this error."""
    response = result if isinstance(result, Exception) else attempt(_respond, result)
    if not isinstance(response, Exception):
        return response
    rejection = _reject(request, response)
    _let_go(response)
    return rejection


def _let_go(error: BaseException | None) -> None:
    """Cut an error, and what led to it, off the frames that they came through.

    The frames hold the request's tensors and the response, and often the error: all would stay
    until the next garbage collection. Where the first one is that of the process's end, the memory
    that tensors and response lie in is gone, and the process ends by SIGSEGV (seen with 2.51).
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def read_tensors(request: Any, *, stay_on_gpu: Collection[str] = ()) -> Tensors:
    """Return a request's inputs by name; in host memory, unless they are to `stay_on_gpu`."""
    tensors = {tensor.name(): _from_triton(tensor) for tensor in request.inputs()}
    return {
        name: array if name in stay_on_gpu else to_host(array) for name, array in tensors.items()
    }


def read_deadline(
    request: Any, limits: Limits, *, is_cancelled: Callable[[], bool] | None = None
) -> Deadline:
    """Return the earlier of the request's own timeout, or the default, and the server's ceiling."""
    # Microseconds; 0 where the caller set none.
    own_seconds = request.timeout() / 1e6 or DEFAULT_REQUEST_SECONDS
    return Deadline.after(min(own_seconds, limits.max_request_seconds), is_cancelled=is_cancelled)


def _respond(outputs: Tensors) -> Any:
    return pb_utils.InferenceResponse(output_tensors=_to_triton(outputs))


def _reject(request: Any, error: Exception) -> Any:
    """Return the response with this error; what the caller must not read goes to the log."""
    code, message = code_and_message(error)
    # What is ours is for the caller, and complete in the message; anything else needs its
    # traceback.
    if code == INTERNAL or not isinstance(error, GroundserveError):
        pb_utils.Logger.log_error(describe_failure(error))
    # Unreadable parameters may be the very error that is being told.
    parameters = attempt(read_parameters, request)
    if not isinstance(parameters, Exception) and CLASS_IN_MESSAGE in parameters:
        message = to_classed_message(error)
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    )


class KeptRequest:
    """What of a request outlives `execute`: all but its tensors, of which the shapes stay.

    Whoever keeps Triton's own request keeps its tensors in the region.

    Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_cancel.cc.
    Any thread may ask whether it was cancelled. The server looks the request up by its address, so
    nobody may ask once it has been answered.
    """

    def __init__(self, request: Any) -> None:
        """Read it while `execute` runs, which is then to return None for it."""
        self._sender = request.get_response_sender()
        self._parameters = attempt(request.parameters)
        microseconds = request.timeout()
        self.timeout = lambda: microseconds
        self._lock = threading.Lock()
        self._is_answered = False
        self.request_id = read_request_id(request)
        """The caller's, always text."""
        self.shapes = {one.name(): tuple(one.shape()) for one in request.inputs()}
        """Each input's, by name."""

    def is_cancelled(self) -> bool:
        """Tell whether Triton knows that the caller is gone.

        Of calls by gRPC it does; of HTTP, a step of an ensemble or a BLS call it does not.
        """
        with self._lock:
            return not self._is_answered and bool(self._sender.is_cancelled())

    def parameters(self) -> str:
        """Return JSON, or raise what reading them raised."""
        if isinstance(self._parameters, Exception):
            raise self._parameters
        text: str = self._parameters
        return text

    def send_part(self, outputs: Tensors) -> None:
        """Send some outputs before the answer; of a decoupled model alone."""
        with self._lock:
            self._sender.send(_respond(outputs))

    def send(self, response: Any) -> None:
        """Answer it."""
        with self._lock:
            self._is_answered = True
            try:
                self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception as error:  # noqa: BLE001 - such as a full /dev/shm
                # A second try is refused. Of a process that ends the keeper takes notice; its
                # callers would wait for ever.
                pb_utils.Logger.log_error(describe_failure(error))
                os._exit(1)


def call_model(
    model_name: str,
    inputs: Tensors,
    outputs: Sequence[str],
    *,
    deadline: Deadline,
    cancellation: CancellationToken,
) -> Tensors:
    """Run another model of this server and return the outputs that are named.

    Any thread may call, several at once, also after `execute` has returned: `exec` lets go of the
    interpreter, and `async_exec` is no more than `exec` in an executor's thread. Tensors on a GPU
    stay there: no memory is preferred.

    Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_stub.cc
    (`async_exec`) and src/infer_request.cc (`InferRequest::Exec`).
    """
    deadline.check()
    request = pb_utils.InferenceRequest(
        model_name=model_name,
        inputs=_to_triton(inputs),
        requested_output_names=list(outputs),
        parameters={CLASS_IN_MESSAGE: True, **cancellation.parameters},
        # 0 would mean no time-out.
        timeout=max(1, int(deadline.remaining_seconds() * 1e6)),
    )
    response = request.exec()
    if response.has_error():
        text = response.error().message()
        error = from_classed_message(model_name, text)
        # Triton's own text, of which the caller is told in our words: the log keeps it.
        if str(error) not in text:
            pb_utils.Logger.log_error(f"the model {model_name} failed: {text}")
        raise error
    return {tensor.name(): _from_triton(tensor) for tensor in response.output_tensors()}


def _from_triton(tensor: Any) -> Array:
    """Return the tensor where it lies; a GPU's is shared, not copied."""
    if tensor.is_cpu():
        array: Array = tensor.as_numpy()
        return array
    return extras.torch.from_dlpack(tensor)  # type: ignore[attr-defined]


def _to_triton(tensors: Mapping[str, Array]) -> list[Any]:
    return [
        pb_utils.Tensor(name, np.ascontiguousarray(array))
        if isinstance(array, np.ndarray)
        # Waits for what is queued on our stream; the memory itself is handed over.
        else pb_utils.Tensor.from_dlpack(name, array.contiguous())
        for name, array in tensors.items()
    ]
