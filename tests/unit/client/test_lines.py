"""The threads of a client's calls: they end with it, and an interrupt leaves nothing running."""

from __future__ import annotations

import gc
import signal
import threading
import time

import pytest

from groundserve import Client

SECONDS = 10


def test_threads_end_with_the_client_that_nobody_closed():
    before = set(threading.enumerate())
    client = Client("grpc://127.0.0.1:9")
    with pytest.raises(Exception, match="failed to connect"):
        client.score(b"x", "x")
    lines = set(threading.enumerate()) - before
    assert len(lines) == 2
    del client
    gc.collect()
    for thread in lines:
        thread.join(SECONDS)
        assert not thread.is_alive(), thread


def test_interrupt_neither_ends_the_beginning_of_a_call_nor_leaves_it_running(monkeypatch):
    """gRPC keeps a lock that an interrupt finds taken, and every later call would wait for it."""
    begun, closed = threading.Event(), threading.Event()

    class Interrupting:
        def infer(self, **arguments):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.05)  # where an interrupt of this thread would be raised
            begun.set()
            assert closed.wait(SECONDS)

        def close(self):
            closed.set()

    with Client("grpc://127.0.0.1:9") as client:
        monkeypatch.setattr(client._connection._lines, "_connect", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            client.score(b"x", "x")
        assert closed.wait(SECONDS)
        assert begun.wait(SECONDS)
