"""What `AsyncClient` does around its calls; nothing answers in these tests."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from groundserve import (
    AsyncClient,
    UnavailableError,
)

NOWHERE = "grpc://127.0.0.1:9"


def test_same_arguments_as_the_client_of_threads():
    from inspect import signature

    from groundserve import Client

    assert signature(AsyncClient.__init__) == signature(Client.__init__)
    assert signature(AsyncClient.score) == signature(Client.score)
    assert signature(AsyncClient.ask) == signature(Client.ask)
    for name in ("is_ready", "close"):
        assert signature(getattr(AsyncClient, name)).parameters.keys() == {"self"}


def test_file_is_read_outside_the_loops_thread(tmp_path, monkeypatch):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"x")
    readers = []
    real_open = os.open

    def spying_open(name, *args, **named):
        if name == str(path):
            readers.append(threading.current_thread())
        return real_open(name, *args, **named)

    async def main():
        async with AsyncClient(NOWHERE) as client:
            with pytest.raises(UnavailableError, match=r"failed to connect to grpc://127.0.0.1:9"):
                await client.score(path, "x")

    monkeypatch.setattr(os, "open", spying_open)
    asyncio.run(main())
    assert readers
    assert threading.main_thread() not in readers


def test_client_belongs_to_no_loop():
    client = AsyncClient(NOWHERE)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            asyncio.run(client.score(b"x", "x"))
    asyncio.run(client.close())


def test_no_thread_and_no_task_is_left_behind():
    before = set(threading.enumerate())

    async def main():
        async with AsyncClient(NOWHERE) as client:
            with pytest.raises(UnavailableError):
                await client.score(b"x", "x")
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert not asyncio.run(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive(), thread
