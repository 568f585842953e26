"""Loops of requests against scripted servers. Times are compared with lower bounds only."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from benchmarks._loops import Sample, Windows, closed_loop, open_loop, stable
from groundserve.errors import UnavailableError

SHORT = Windows(seconds=0.05, warm_up_seconds=0.02, most=4, stability=1e9)


def cached():
    return itertools.repeat(True)


def run_open(send, arrivals, windows=SHORT, kinds=None):
    return asyncio.run(
        open_loop(
            send, time.perf_counter, arrivals=arrivals, kinds=kinds or cached(), windows=windows
        )
    )


def test_latency_counts_from_the_arrival_where_the_generator_was_held_up():
    """The first answer holds up the generator itself: the second request is sent late."""

    async def send(number, *, is_cached):
        if number == 0:
            time.sleep(0.2)

    first, second = run_open(send, [0.0, 0.05]).samples
    assert first.seconds >= 0.2
    assert second.due - first.due == pytest.approx(0.05)
    assert second.sent - second.due >= 0.1
    assert second.seconds >= 0.1


def test_open_loop_does_not_wait_for_answers():
    """A server that works on one request at a time, far slower than they come."""

    async def run():
        turn = asyncio.Lock()
        open_now, most = 0, 0

        async def send(number, *, is_cached):
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            async with turn:
                await asyncio.sleep(0.05)
            open_now -= 1

        measured = await open_loop(
            send,
            time.perf_counter,
            arrivals=[0.0, 0.001, 0.002, 0.003],
            kinds=cached(),
            windows=SHORT,
        )
        return measured, most

    measured, most = asyncio.run(run())
    assert most == 4
    by_arrival = sorted(measured.samples, key=lambda one: one.due)
    for place, sample in enumerate(by_arrival, 1):  # each waits for all before it
        assert sample.seconds >= 0.05 * place - 0.003 - 0.001  # arrivals; the clock of the loop


def test_all_windows_of_an_open_loop_are_read():
    async def send(number, *, is_cached):
        raise UnavailableError("full")

    measured = run_open(send, [0.0, 0.01, 0.02])
    assert [one.code for one in measured.samples] == ["UnavailableError"] * 3
    assert [one.info for one in measured.samples] == [None] * 3
    assert len(measured.bounds) == len(measured.readings) == SHORT.most + 1
    assert measured.is_stable is None
    for bound, read_at in zip(measured.bounds, measured.readings, strict=True):
        assert read_at >= bound


def run_closed(send, num_clients, windows):
    return asyncio.run(
        closed_loop(
            send,
            time.perf_counter,
            num_clients=num_clients,
            kinds=itertools.cycle([True, False]),
            windows=windows,
            first_number=7,
        )
    )


def test_closed_loop_keeps_so_many_requests_open():
    open_now, most, numbers = 0, 0, []

    async def send(number, *, is_cached):
        nonlocal open_now, most
        numbers.append(number)
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.001)
        open_now -= 1

    measured = run_closed(send, 3, SHORT)
    assert most == 3
    assert open_now == 0
    assert numbers == list(range(7, 7 + len(measured.samples)))
    assert measured.is_stable is True
    assert len(measured.bounds) == 4  # three windows: as few as can agree
    assert {one.is_cached for one in measured.samples} == {True, False}


def test_closed_loop_that_never_agrees_ends_all_the_same():
    async def send(number, *, is_cached):
        await asyncio.sleep(0.2)  # no answer in most windows

    measured = run_closed(send, 1, SHORT)
    assert measured.is_stable is False
    assert len(measured.bounds) == SHORT.most + 1


def test_what_is_no_refusal_ends_the_loop():
    async def send(number, *, is_cached):
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        run_closed(send, 2, SHORT)
    assert caught.group_contains(ZeroDivisionError)


def samples(*windows):
    """For each window of one second, the latencies of its answers."""
    return [
        Sample(
            is_cached=True,
            due=start + 0.5 - seconds,
            sent=start,
            done=start + 0.5,
            code="ok",
            info=None,
        )
        for start, window in enumerate(windows)
        for seconds in window
    ]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param([[0.1] * 10] * 2, False, id="two_windows_are_too_few"),
        pytest.param([[0.1] * 10] * 3, True, id="alike"),
        pytest.param([[0.1] * 10, [0.1] * 11, [0.1] * 10], True, id="rate_within_a_tenth"),
        pytest.param([[0.1] * 10, [0.1] * 12, [0.1] * 10], False, id="rate_past_it"),
        pytest.param([[0.1] * 10, [0.12] * 10, [0.1] * 10], False, id="latency_past_it"),
        pytest.param([[9.0], [0.1] * 10, [0.1] * 10, [0.1] * 10], True, id="only_the_last_three"),
        pytest.param([[0.1] * 10, [], [0.1] * 10], False, id="a_window_without_answers"),
    ],
)
def test_stable(windows, expected):
    # Just above a tenth: 11 of 10 must be in, whatever floats make of 1.1.
    bounds = [float(n) for n in range(len(windows) + 1)]
    assert stable(samples(*windows), bounds, 0.1 + 1e-9) is expected
