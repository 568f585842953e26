"""Ctrl-C and SIGTERM: both end a server in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from groundserve.serving.server import TritonServer


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does; main thread only.

    Around `TritonServer.start` and `stop` it keeps a SIGTERM from leaving the server behind.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def wait_for_stop_signal(server: TritonServer) -> None:
    """Wait for Ctrl-C or SIGTERM; stopping the server is left to the caller.

    Raises:
        UnavailableError: The server ended by itself.
    """
    with sigterm_as_interrupt(), suppress(KeyboardInterrupt):
        server.wait()
