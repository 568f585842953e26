"""Between Triton's requests and plain arrays: read, respond, reject."""

from __future__ import annotations

# The stub of 2.51 imports it at its first request: out of descriptors, the caller got a traceback.
import asyncio  # noqa: F401
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils

from groundserve.deadline import Deadline
from groundserve.errors import GroundserveError
from groundserve.limits import Limits
from groundserve.triton_messages import CLASS_IN_MESSAGE
from python_backend.arrays import Array, to_host
from python_backend.triton._answer import Answer
from python_backend.triton._cancellation import Lifeline, cancellation_of
from python_backend.triton._errors import (
    INTERNAL,
    code_and_message,
    from_classed_message,
    to_classed_message,
    typed,
)
from python_backend.triton._parameters import read_parameters, read_request_id
from python_backend.triton._redact import describe_failure
from python_backend.triton._report import Observe
from python_backend.triton._tensors import Tensors

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_REQUEST_SECONDS = 60.0
"""For a request that has no timeout, as most over HTTP have none. Triton tells nobody that a caller
over HTTP, or of an ensemble, has left: the work goes on until then."""


def answer_each(
    requests: list[Any],
    handle: Callable[[Tensors, Deadline], Answer],
    *,
    limits: Limits,
    observers: Sequence[Observe] = (),
    stay_on_gpu: Collection[str] = (),
    check: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Answer requests one by one; one that fails takes no other with it, and order is kept.

    Args:
        requests: Triton's.
        handle: What the model does with one.
        limits: Ceilings, also on time.
        observers: Told of every answer.
        stay_on_gpu: See `read_tensors`.
        check: Raises what is wrong with a request before its tensors are read.
    """

    def handle_one(request: Any) -> Answer:
        if check is not None:
            check(request)
        tensors = read_tensors(request, stay_on_gpu=stay_on_gpu)
        return handle(tensors, read_deadline(request, limits))

    responses = []
    for request in requests:
        started = time.perf_counter()
        # Reading is inside: a tensor that cannot be read is this request's error, and no other's.
        result = attempt(handle_one, request)
        for observe in observers:
            # As `attempt` says; a lost count loses no answer.
            attempt(observe, request, result, time.perf_counter() - started)
        responses.append(answer(request, result))
    return responses


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """Return what the call returns, or what it raises as one of our errors where it is one."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - a raise in execute would show the caller a traceback
        return typed(error)


def answer(request: Any, result: Answer | Exception) -> Any:
    """Return the response with these outputs, or the one with this error."""
    response = result if isinstance(result, Exception) else attempt(respond, result.outputs)
    if not isinstance(response, Exception):
        return response
    rejection = reject(request, response)
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
    """Return the inputs that the request has, by name.

    Args:
        request: Triton's.
        stay_on_gpu: Inputs that are used where they lie; all others come to host memory.
    """
    tensors = {tensor.name(): _from_triton(tensor) for tensor in request.inputs()}
    return {
        name: array if name in stay_on_gpu else to_host(array) for name, array in tensors.items()
    }


def read_deadline(request: Any, limits: Limits) -> Deadline:
    """Return the earlier of the request's own timeout, or the default, and the server's ceiling.

    It also tells whether the request was cancelled, so it is of use until the answer alone.
    """
    # Microseconds; 0 where the caller set none.
    own_seconds = request.timeout() / 1e6 or DEFAULT_REQUEST_SECONDS
    return Deadline.after(
        min(own_seconds, limits.max_request_seconds), is_cancelled=cancellation_of(request)
    )


def respond(outputs: Tensors) -> Any:
    """Return the response with these outputs."""
    return pb_utils.InferenceResponse(output_tensors=_to_triton(outputs))


def reject(request: Any, error: Exception) -> Any:
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


@dataclass(frozen=True)
class _InputShape:
    _name: str
    _shape: tuple[int, ...]

    def name(self) -> str:
        return self._name

    def shape(self) -> tuple[int, ...]:
        return self._shape


class KeptRequest:
    """What of a request outlives `execute`: all but its tensors, of which the shapes stay.

    It is asked as Triton's own request is. Whoever keeps that keeps its tensors in the region.
    """

    def __init__(self, request: Any) -> None:
        """Read it while `execute` runs, which is then to return None for it."""
        self._sender = request.get_response_sender()
        self._request_id = read_request_id(request)
        self._parameters = attempt(request.parameters)
        self._timeout = request.timeout()
        self._inputs = [_InputShape(one.name(), tuple(one.shape())) for one in request.inputs()]

    def is_cancelled(self) -> bool:
        """As Triton's; until it is answered."""
        is_cancelled: bool = self._sender.is_cancelled()
        return is_cancelled

    def request_id(self) -> str:
        """As Triton's, always text."""
        return self._request_id

    def parameters(self) -> str:
        """As Triton's."""
        if isinstance(self._parameters, Exception):
            raise self._parameters
        text: str = self._parameters
        return text

    def timeout(self) -> int:
        """As Triton's."""
        timeout: int = self._timeout
        return timeout

    def inputs(self) -> list[_InputShape]:
        """The inputs' names and shapes."""
        return self._inputs

    def send(self, response: Any) -> None:
        """Answer it."""
        try:
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:  # noqa: BLE001 - such as a full /dev/shm
            # A second try is refused. Of a process that ends the keeper takes notice; its callers
            # would wait for ever.
            pb_utils.Logger.log_error(describe_failure(error))
            os._exit(1)


def call_model(
    model_name: str,
    inputs: Tensors,
    *,
    outputs: Sequence[str],
    deadline: Deadline,
    lifeline: Lifeline | None = None,
) -> Tensors:
    """Run another model of this server and wait for its outputs.

    Any thread may call while `execute` runs, several at once: `exec` lets go of the interpreter,
    and `async_exec` is no more than `exec` in an executor's thread.

    A call that is under way is not cancelled with the request that made it; a model that is given
    a lifeline hears of it there.

    No memory is preferred: then each output stays where the other model made it.

    Args:
        model_name: The model.
        inputs: By name; on a GPU they stay there.
        outputs: Names of the outputs to return.
        deadline: The request's; what is left of it becomes the call's own time-out.
        lifeline: Tells the model when the caller is gone; None: it works on to its end.

    Raises:
        DeadlineExceededError: No time is left to begin.
        RequestCancelledError: Nobody waits for it any more.
        GroundserveError: The model rejected the inputs (with the class that says so), or failed.

    Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_stub.cc
    (`async_exec`) and src/infer_request.cc (`InferRequest::Exec`).
    """
    deadline.check()
    request = pb_utils.InferenceRequest(
        model_name=model_name,
        inputs=_to_triton(inputs),
        requested_output_names=list(outputs),
        parameters={CLASS_IN_MESSAGE: True} | (lifeline.parameters if lifeline else {}),
        # 0 would mean no time-out.
        timeout=max(1, int(deadline.remaining_seconds() * 1e6)),
    )
    response = request.exec()
    return _outputs_of(response, model_name)


def _outputs_of(response: Any, model_name: str) -> Tensors:
    """Return a response's outputs, or raise the error that it is."""
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
    import torch

    return torch.from_dlpack(tensor)  # type: ignore[attr-defined]


def _to_triton(tensors: Mapping[str, Array]) -> list[Any]:
    return [_one_to_triton(name, array) for name, array in tensors.items()]


def _one_to_triton(name: str, array: Array) -> Any:
    if isinstance(array, np.ndarray):
        return pb_utils.Tensor(name, np.ascontiguousarray(array))
    # Waits for what is queued on our stream; the memory itself is handed over.
    return pb_utils.Tensor.from_dlpack(name, array.contiguous())
