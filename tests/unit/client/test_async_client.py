"""What `AsyncClient` does around its calls; where something answers, it is a stand-in."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from tritonclient.utils import InferenceServerException

from groundserve import (
    AsyncClient,
    InvalidRequestError,
    MediaError,
    RequestCancelledError,
    UnavailableError,
)

NOWHERE = "grpc://127.0.0.1:9"
REFUSED = InferenceServerException("asked", "StatusCode.INVALID_ARGUMENT")


class Calls:
    """Stands in for `async_infer`: keeps each call until the test answers it."""

    def __init__(self, client):
        self.threads = []
        self.callbacks = []
        self.num_cancelled = 0
        self.begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        client._connection._server.async_infer = self.async_infer

    def async_infer(self, model_name, inputs, callback, **named):
        self.threads.append(threading.current_thread().name)
        self.callbacks.append(callback)
        self._loop.call_soon_threadsafe(self.begun.set)
        return SimpleNamespace(cancel=self._cancel)

    def _cancel(self):
        self.num_cancelled += 1


def test_same_arguments_as_the_client_of_threads():
    from inspect import signature

    from groundserve import Client

    assert signature(AsyncClient.__init__) == signature(Client.__init__)
    assert signature(AsyncClient.score) == signature(Client.score)
    assert signature(AsyncClient.ask) == signature(Client.ask)
    for name in ("is_ready", "close"):
        assert signature(getattr(AsyncClient, name)).parameters.keys() == {"self"}


def test_nobody_at_the_address_is_unavailable():
    async def main():
        async with AsyncClient(NOWHERE) as client:
            assert not await client.is_ready()
            with pytest.raises(UnavailableError, match=r"failed to connect to grpc://127.0.0.1:9"):
                await client.score(b"x", "x")

    asyncio.run(main())


def test_file_is_read_and_request_made_outside_the_loops_thread(tmp_path, monkeypatch):
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
            calls = Calls(client)
            task = asyncio.create_task(client.score(path, "x"))
            await calls.begun.wait()
            calls.callbacks[0](None, REFUSED)
            with pytest.raises(InvalidRequestError, match="asked"):
                await task
            assert calls.threads == ["groundserve-calls"]

    monkeypatch.setattr(os, "open", spying_open)
    asyncio.run(main())
    assert readers
    assert threading.main_thread() not in readers


def test_cancelled_task_ends_its_call():
    async def main():
        async with AsyncClient(NOWHERE) as client:
            calls = Calls(client)
            task = asyncio.create_task(client.score(b"x", "x"))
            await calls.begun.wait()
            assert calls.num_cancelled == 0
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.close()  # so that what was given to the thread is done
            assert calls.num_cancelled == 1
            calls.callbacks[0](None, REFUSED)  # an answer that nobody waits for any more

    asyncio.run(main())


def test_call_that_is_cancelled_before_it_began_is_never_sent():
    async def main():
        async with AsyncClient(NOWHERE) as client:
            calls = Calls(client)
            hold = threading.Event()
            client._connection._thread.run(hold.wait)
            task = asyncio.create_task(client.score(b"x", "x"))
            await asyncio.sleep(0.05)  # until its call is prepared
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hold.set()
            await client.close()
            assert calls.callbacks == []

    asyncio.run(main())


def test_many_calls_at_one_time_get_their_own_answers():
    async def main():
        async with AsyncClient(NOWHERE) as client:
            calls = Calls(client)
            tasks = [asyncio.create_task(client.score(b"x", "x")) for _ in range(100)]
            while len(calls.callbacks) < 100:
                await asyncio.sleep(0.001)
            order = [tasks[i] for i in range(100)]
            for number, callback in enumerate(calls.callbacks):
                callback(None, InferenceServerException(str(number), "StatusCode.UNAVAILABLE"))
            answers = await asyncio.gather(*order, return_exceptions=True)
            assert {str(answer) for answer in answers} == {str(number) for number in range(100)}

    asyncio.run(main())


def test_no_two_threads_begin_a_call_at_one_time():
    """tritonclient's `async_infer` keeps the call in an attribute before it takes the callback."""
    beginning = threading.Lock()

    def async_infer(model_name, inputs, callback, **named):
        assert beginning.acquire(blocking=False)
        time.sleep(0.01)
        beginning.release()
        callback(None, REFUSED)
        return SimpleNamespace(cancel=lambda: None)

    client = AsyncClient(NOWHERE)
    client._connection._server.async_infer = async_infer
    with ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(asyncio.run, client.score(b"x", "x")) for _ in range(8)]:
            with pytest.raises(InvalidRequestError, match="asked"):
                call.result()
    asyncio.run(client.close())


def test_client_belongs_to_no_loop():
    client = AsyncClient(NOWHERE)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            asyncio.run(client.score(b"x", "x"))
    asyncio.run(client.close())


def test_closed_client_asks_nobody_and_reads_nothing():
    async def main():
        client = AsyncClient(NOWHERE)
        await client.close()
        await client.close()
        assert not await client.is_ready()
        with pytest.raises(RequestCancelledError, match="the client is closed"):
            await client.score("/none", "x")

    asyncio.run(main())


def test_closing_ends_the_calls_of_other_tasks(monkeypatch):
    async def main():
        client = AsyncClient(NOWHERE)
        calls = Calls(client)
        cancelled = InferenceServerException("Channel closed!", "StatusCode.CANCELLED")
        monkeypatch.setattr(
            client._connection._server, "close", lambda: calls.callbacks[0](None, cancelled)
        )
        task = asyncio.create_task(client.score(b"x", "x"))
        await calls.begun.wait()
        await client.close()
        with pytest.raises(RequestCancelledError, match="its client was closed"):
            await task

    asyncio.run(main())


def test_answer_after_the_loop_was_closed_disturbs_nobody():
    client = AsyncClient(NOWHERE)

    async def main():
        calls = Calls(client)
        task = asyncio.ensure_future(client.score(b"x", "x"))
        await calls.begun.wait()
        return calls, task

    loop = asyncio.new_event_loop()
    calls, task = loop.run_until_complete(main())
    task._log_destroy_pending = False  # the test's own fault
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    calls.callbacks[0](None, REFUSED)
    calls.callbacks.clear()
    del task
    gc.collect()  # the coroutine ends, and with it the call
    asyncio.run(client.close())
    assert calls.num_cancelled == 1


def test_forked_process_is_told_to_make_a_client_of_its_own(monkeypatch):
    async def main():
        async with AsyncClient(NOWHERE) as client:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 1)
                for ask in (client.score(b"x", "x"), client.is_ready()):
                    with pytest.raises(InvalidRequestError, match="in the process that made it"):
                        await ask
                await client.close()
            with pytest.raises(MediaError):  # still open
                await client.score("/none", "x")

    asyncio.run(main())


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
