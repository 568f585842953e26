"""The thread that no interrupt reaches."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from groundserve.call_thread import CallThread


def test_tasks_run_in_their_order_in_one_other_thread():
    thread, done = CallThread(), SimpleQueue()
    for number in range(3):
        thread.run(lambda number=number: done.put((number, threading.current_thread())))
    numbers, threads = zip(*(done.get(timeout=10) for _ in range(3)), strict=True)
    assert numbers == (0, 1, 2)
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


def test_close_ends_the_thread_after_what_it_was_given_and_no_later_task_is_lost():
    thread, done = CallThread(), SimpleQueue()
    thread.run(lambda: done.put(threading.current_thread()))
    thread.close()
    worker = done.get(timeout=10)
    worker.join(timeout=10)
    assert not worker.is_alive()
    thread.run(lambda: done.put(threading.current_thread()))
    assert done.get_nowait() is threading.current_thread()
    thread.close()


def test_thread_ends_with_its_owner():
    thread, done = CallThread(), SimpleQueue()
    thread.run(lambda: done.put(threading.current_thread()))
    worker = done.get(timeout=10)
    del thread
    worker.join(timeout=10)
    assert not worker.is_alive()
