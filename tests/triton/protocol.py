"""One call for HTTP and gRPC: arrays by name in, arrays by name or an error out."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

MODULES: dict[str, ModuleType] = {"grpc": tritonclient.grpc, "http": tritonclient.http}
CODES = {
    "StatusCode.INVALID_ARGUMENT": "INVALID_ARG",
    "400": "INVALID_ARG",
    "StatusCode.UNIMPLEMENTED": "UNSUPPORTED",
    "501": "UNSUPPORTED",
    "StatusCode.CANCELLED": "CANCELLED",
    "StatusCode.UNAVAILABLE": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "StatusCode.NOT_FOUND": "NOT_FOUND",
    "404": "NOT_FOUND",
    "StatusCode.INTERNAL": "INTERNAL",
    "500": "INTERNAL",
}

Arrays = dict[str, NDArray[Any]]


@dataclass
class RejectedError(Exception):
    """An error that the server answered."""

    code: str
    message: str


class Protocol:
    """A client of one server."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.triton = MODULES[name]
        self.client = self.triton.InferenceServerClient(address)

    def infer(
        self,
        model: str,
        inputs: Arrays,
        *,
        timeout_microseconds: int | None = None,
        request_id: str = "",
        parameters: dict[str, Any] | None = None,
    ) -> Arrays:
        tensors = []
        for name, array in inputs.items():
            tensor = self.triton.InferInput(
                name, list(array.shape), np_to_triton_dtype(array.dtype)
            )
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        try:
            answer = self.client.infer(
                model,
                tensors,
                timeout=timeout_microseconds,
                request_id=request_id,
                parameters=parameters,
            )
        except InferenceServerException as error:
            raise RejectedError(CODES[str(error.status())], str(error.message())) from None
        response = (
            answer.get_response(as_json=True) if self.name == "grpc" else answer.get_response()
        )
        return {output["name"]: answer.as_numpy(output["name"]) for output in response["outputs"]}


def texts(*values: str | bytes) -> NDArray[np.object_]:
    """A BYTES tensor (n,)."""
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array(raw, dtype=np.object_)


def upload(data: bytes) -> NDArray[np.uint8]:
    """A VIDEO tensor (B,)."""
    return np.frombuffer(data, np.uint8)
