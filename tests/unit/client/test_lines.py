"""Calls with a thread and a channel of their own; what answers is a stand-in for tritonclient."""

from __future__ import annotations

import gc
import signal
import threading
import time
from queue import Empty, SimpleQueue

import pytest

from groundserve import Client
from groundserve.call_thread import CallThread
from groundserve.client._lines import LineCall, Lines

SECONDS = 10


class Channel:
    """A channel whose calls are answered by the test, or by closing it."""

    def __init__(self):
        self.begun = SimpleQueue()
        self.answers = SimpleQueue()
        self.is_closed = False

    def infer(self, **arguments):
        if self.is_closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        self.begun.put(arguments)
        answer = self.answers.get(timeout=SECONDS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.is_closed = True
        self.answers.put(ConnectionError("Channel closed!"))


class Calls:
    """Lines whose channels are listed, and calls on them."""

    def __init__(self):
        self.channels = []
        self.lines = Lines(self._connect)
        self.thread = CallThread()

    def _connect(self):
        self.channels.append(Channel())
        return self.channels[-1]

    def begin(self):
        answers = SimpleQueue()
        call = LineCall(self.lines, self.thread, lambda channel: channel.infer(), answers.put)
        call.begin()
        return call, answers

    def end(self, call):
        """End a call, and wait until that is done."""
        call.end()
        done = threading.Event()
        self.thread.run(done.set)
        assert done.wait(SECONDS)


@pytest.fixture
def calls():
    one = Calls()
    yield one
    one.lines.close()
    one.thread.close()


def begun(channel):
    channel.begun.get(timeout=SECONDS)


def channel_of_first(calls):
    end = time.monotonic() + SECONDS
    while not calls.channels and time.monotonic() < end:
        time.sleep(0.001)
    begun(calls.channels[0])
    return calls.channels[0]


def test_calls_in_turn_share_a_line_and_calls_at_one_time_do_not(calls):
    for number in range(3):
        _, answers = calls.begin()
        channel_of_first(calls).answers.put(number)
        assert answers.get(timeout=SECONDS) == number
    assert len(calls.channels) == 1
    first, second = calls.begin(), calls.begin()
    begun(calls.channels[0])
    while len(calls.channels) < 2:
        time.sleep(0.001)
    begun(calls.channels[1])
    for channel, (_, answers), number in zip(calls.channels, (first, second), (1, 2), strict=True):
        channel.answers.put(number)
        assert answers.get(timeout=SECONDS) == number


def test_what_a_call_raises_is_delivered_and_its_line_goes_on(calls):
    for number in range(2):
        _, answers = calls.begin()
        channel_of_first(calls).answers.put(KeyError(number))
        assert answers.get(timeout=SECONDS).args == (number,)
    assert len(calls.channels) == 1


def test_call_that_ends_closes_its_channel_alone_and_delivers_nothing(calls):
    call, answers = calls.begin()
    channel = channel_of_first(calls)
    _, other_answers = calls.begin()
    while len(calls.channels) < 2:
        time.sleep(0.001)
    begun(calls.channels[1])
    calls.end(call)
    assert channel.is_closed
    assert not calls.channels[1].is_closed
    calls.channels[1].answers.put("other")
    assert other_answers.get(timeout=SECONDS) == "other"
    with pytest.raises(Empty):
        answers.get_nowait()
    calls.begin()  # on the line that is left
    begun(calls.channels[1])
    assert len(calls.channels) == 2


def test_call_that_was_answered_ends_without_closing_the_line_of_the_next(calls):
    call, answers = calls.begin()
    channel = channel_of_first(calls)
    channel.answers.put("first")
    assert answers.get(timeout=SECONDS) == "first"
    _, answers = calls.begin()
    begun(channel)
    calls.end(call)
    assert not channel.is_closed
    channel.answers.put("second")
    assert answers.get(timeout=SECONDS) == "second"


def test_call_that_ends_before_it_began_is_never_sent(calls):
    _, answers = calls.begin()
    channel = channel_of_first(calls)
    channel.answers.put(None)
    answers.get(timeout=SECONDS)
    hold = threading.Event()
    line = calls.lines.take()
    line._thread.run(hold.wait)
    calls.lines.give_back(line)
    call, answers = calls.begin()
    calls.end(call)
    hold.set()
    calls.begin()
    end = time.monotonic() + SECONDS
    while not any(one.begun.qsize() for one in calls.channels) and time.monotonic() < end:
        time.sleep(0.001)
    assert sum(one.begun.qsize() for one in calls.channels) == 1
    assert not answers.qsize()


def test_closing_ends_every_call_and_later_ones_are_never_sent(calls):
    _, answers = calls.begin()
    channel = channel_of_first(calls)
    calls.lines.close()
    assert isinstance(answers.get(timeout=SECONDS), ConnectionError)
    _, answers = calls.begin()
    assert isinstance(answers.get(timeout=SECONDS), ValueError)
    assert not channel.begun.qsize()


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
