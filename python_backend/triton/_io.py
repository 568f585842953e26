"""Between Triton's requests and plain arrays: read, respond, reject."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from python_backend.triton._answer import Answer
from python_backend.triton._errors import (
    INTERNAL,
    code_and_message,
    from_coded_message,
    to_coded_message,
)
from python_backend.triton._report import Observe
from python_backend.triton._tensors import Tensors

P = ParamSpec("P")
T = TypeVar("T")

_CODE_IN_MESSAGE = "code_in_message"
"""Request parameter of BLS calls: 2.51 hands every error of an inner model on as INTERNAL."""


def answer_each(
    requests: list[Any],
    handle: Callable[[Tensors, Deadline], Answer],
    *,
    limits: Limits,
    observers: Sequence[Observe] = (),
) -> list[Any]:
    """Answer requests one by one; one that fails takes no other with it, and order is kept."""

    def handle_one(request: Any) -> Answer:
        return handle(read_tensors(request), read_deadline(request, limits))

    responses = []
    for request in requests:
        result = attempt(handle_one, request)
        for observe in observers:
            observe(request, result)
        responses.append(answer(request, result))
    return responses


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """Return what the call returns or raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - a raise in execute would show the caller a traceback
        return error


def answer(request: Any, result: Answer | Exception) -> Any:
    """Return the response with these outputs, or the one with this error."""
    response = result if isinstance(result, Exception) else attempt(respond, result.outputs)
    return reject(request, response) if isinstance(response, Exception) else response


def read_tensors(request: Any) -> Tensors:
    """Return the inputs that the request has, by name."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def read_deadline(request: Any, limits: Limits) -> Deadline:
    """Return the earlier of the request's own timeout and the server's ceiling."""
    own_seconds = request.timeout() / 1e6 or limits.max_request_seconds
    return Deadline.after(min(own_seconds, limits.max_request_seconds))


def respond(outputs: Tensors) -> Any:
    """Return the response with these outputs."""
    return pb_utils.InferenceResponse(output_tensors=_to_triton(outputs))


def reject(request: Any, error: Exception) -> Any:
    """Return the response with this error; what the caller must not read goes to the log."""
    code, message = code_and_message(error)
    if code == INTERNAL:
        pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
    if _CODE_IN_MESSAGE in json.loads(request.parameters() or "{}"):
        message = to_coded_message(code, message)
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    )


def call_model(
    model_name: str, inputs: Tensors, *, output: str, deadline: Deadline
) -> NDArray[Any]:
    """Run another model of this server and wait for one of its outputs. Any thread may call.

    Raises:
        DeadlineExceededError: No time is left to begin.
        GroundserveError: The model rejected the inputs (with the class that says so), or failed.
    """
    deadline.check()
    request = pb_utils.InferenceRequest(
        model_name=model_name,
        inputs=_to_triton(inputs),
        requested_output_names=[output],
        parameters={_CODE_IN_MESSAGE: True},
        timeout=max(1, int(deadline.remaining_seconds() * 1e6)),
    )
    response = request.exec()
    if response.has_error():
        raise from_coded_message(model_name, response.error().message())
    array: NDArray[Any] = pb_utils.get_output_tensor_by_name(response, output).as_numpy()
    return array


def _to_triton(tensors: Tensors) -> list[Any]:
    return [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in tensors.items()]
