"""What the operator learns of each request: metrics, and one line of JSON in the server's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

from python_backend.triton._answer import Answer, log_line
from python_backend.triton._metrics import Metrics
from python_backend.triton._parameters import read_request_id

Observe = Callable[[Any, Answer | Exception, float], None]
"""Takes a request, what came of it, and the seconds that took."""


def observe_metrics(metrics: Metrics) -> Observe:
    """Return an observer that adds up stages and errors."""

    def observe(request: Any, result: Answer | Exception, seconds: float) -> None:
        if isinstance(result, Exception):
            metrics.count_error(result)
        else:
            metrics.observe_stages(result.timing_ms)

    return observe


def observe_log(model_name: str) -> Observe:
    """Return an observer that writes the line of a request that ends here."""

    def observe(request: Any, result: Answer | Exception, seconds: float) -> None:
        if isinstance(result, Answer) and result.goes_on:
            return
        # Shapes alone: a failed request is told of without touching its content.
        shapes = {tensor.name(): tuple(tensor.shape()) for tensor in request.inputs()}
        request_id = read_request_id(request)
        line = log_line(model_name, request_id, result, shapes=shapes, seconds=seconds)
        pb_utils.Logger.log_info(line)

    return observe
