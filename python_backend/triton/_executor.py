"""Calls of the model `tensorrt_llm`, which streams answers, with a deadline between their tokens.

One call at a time in each process: the Python backend keeps the responses of decoupled calls by an
address that it gives to the next one as soon as a call has ended, and does not lock what it clears
then.

The backend is told to stop by its own request for that, which has the id of the one that it ends.
The Python backend's `cancel` is newer than the oldest server that is supported (25.05), and there
is nothing to call it on before the first token has come.

Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/pb_stub.cc,
`GetResponseIterator`, and src/pb_response_iterator.cc, `Clear`; NVIDIA/TensorRT-LLM 0c8de69,
`triton_backend/inflight_batcher_llm/src/model_instance_state.cc`, `handleStopRequest`.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import POLL_SECONDS, Deadline
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    RequestCancelledError,
    UnsupportedError,
)
from groundserve.limits import Limits
from python_backend.generate.tensorrt_llm import ExecutorGenerator, stop_tensors
from python_backend.heads import TextHead
from python_backend.meter import Meter
from python_backend.triton._context import ModelContext
from python_backend.triton._io import stream_model

MODEL_NAME = "tensorrt_llm"
_OUTPUTS = ("output_ids", "sequence_length")

_IsOver = DeadlineExceededError | RequestCancelledError


class TritonExecutor:
    """See `python_backend.generate.tensorrt_llm.Executor`."""

    def stream(
        self, inputs: Mapping[str, NDArray[Any]], *, deadline: Deadline
    ) -> Iterator[Mapping[str, NDArray[np.int32]]]:
        """See `Executor.stream`."""
        deadline.check()
        request_id = secrets.token_hex(16)
        with _watching(request_id, deadline) as is_over:
            # Returns with the first part, which may have to wait for others' answers.
            parts = stream_model(MODEL_NAME, inputs, outputs=_OUTPUTS, request_id=request_id)
        for part in parts:
            yield part
            if not is_over and (error := _find_over(deadline)):
                is_over.append(error)
                _stop(request_id)
        if is_over:
            raise is_over[0]


def open_executor_head(context: ModelContext, *, limits: Limits, meter: Meter) -> TextHead:
    """Open the head of engines whose decoder that model runs.

    Args:
        context: Of the model that calls it.
        limits: Ceilings on a request.
        meter: Where work is counted.

    Raises:
        UnsupportedError: Several tokens end an answer; the backend knows one.
        EngineMismatchError: A file of the engine directory cannot be read.
    """
    engine = context.engine
    generator = ExecutorGenerator(
        front=engine.open_executor_front(num_threads=context.num_threads),
        executor=TritonExecutor(),
        vocab_size=engine.read_vocab_size(),
        end_id=_end_id(engine.open_answer_tokenizer().end_ids),
    )
    return TextHead.of(engine, generator=generator, limits=limits, meter=meter)


def _end_id(end_ids: frozenset[int]) -> int:
    if len(end_ids) != 1:
        raise UnsupportedError(
            "a decoder of Triton's tensorrtllm backend has one token that ends an answer, got "
            f"{sorted(end_ids)}; choose the profile torch"
        )
    (end_id,) = end_ids
    return end_id


@contextmanager
def _watching(request_id: str, deadline: Deadline) -> Iterator[list[_IsOver]]:
    """Have the backend stop once the deadline is over, while the block waits for it.

    Yields:
        What ended it, as soon as something has.
    """
    is_over: list[_IsOver] = []
    has_ended = threading.Event()

    def watch() -> None:
        while not has_ended.wait(POLL_SECONDS):
            if not is_over and (error := _find_over(deadline)):
                is_over.append(error)
            if is_over:
                # Again each time: a request that has not reached the backend is not stopped.
                _stop(request_id)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield is_over
    finally:
        has_ended.set()
        watcher.join()


def _find_over(deadline: Deadline) -> _IsOver | None:
    """Return why the work is to stop, None where it is not."""
    try:
        deadline.check()
    except (DeadlineExceededError, RequestCancelledError) as error:
        return error
    return None


def _stop(request_id: str) -> None:
    """Tell the backend, and wait until it has heard it."""
    # What goes wrong is in the log; the answer then goes on to its end.
    with suppress(GroundserveError):
        deque(
            stream_model(MODEL_NAME, stop_tensors(), outputs=_OUTPUTS, request_id=request_id),
            maxlen=0,
        )
