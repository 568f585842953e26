"""Passes of a network end in their middle when their request is over.

On a CPU one pass of a large model takes many seconds. ONNX Runtime looks at a flag between two
operators; in PyTorch each layer looks for itself before it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from groundserve import extras
from groundserve.errors import GroundserveError
from groundserve.runtime.deadline import POLL_SECONDS, Deadline

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

_of_thread = threading.local()


@contextmanager
def ending_with(deadline: Deadline) -> Iterator[None]:
    """Have the passes that this thread makes in the block end with a request, by its `check`."""
    _of_thread.deadline = deadline
    try:
        yield
    finally:
        _of_thread.deadline = None


def run_session(run: Callable[..., T], *arguments: Any) -> T:
    """Call a method of an ONNX Runtime session that takes `RunOptions` last."""
    deadline: Deadline | None = getattr(_of_thread, "deadline", None)
    if deadline is None:
        return run(*arguments)
    options = extras.onnxruntime.RunOptions()
    has_ended = threading.Event()
    reasons: list[GroundserveError] = []

    def watch() -> None:
        while not has_ended.wait(POLL_SECONDS):
            try:
                deadline.check()
            except GroundserveError as error:
                reasons.append(error)
                options.terminate = True
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        return run(*arguments, options)
    except Exception:
        if reasons:
            raise reasons[0] from None
        raise
    finally:
        has_ended.set()


def look_before(layers: Iterable[nn.Module]) -> None:
    """Have layers of PyTorch look before they run."""

    def look(*_: Any) -> None:
        deadline: Deadline | None = getattr(_of_thread, "deadline", None)
        if deadline is not None:
            deadline.check()

    for layer in layers:
        layer.register_forward_pre_hook(look)
