"""When a request is sent again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from groundserve import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.client._exchange import Exchange
from groundserve.runtime.deadline import Deadline

REFUSED = UnavailableError("refused")
BROKE = UnavailableError("broke")


class Script:
    """A connection, and a way to wait for it: calls fail as the script says."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[dict] = []
        self.waits: list[float] = []
        self._failures = list(failures)
        self._slept = 0.0

    def check_open(self):
        pass

    def call(self, tensors, **named):
        self.calls.append(named)
        if self._slept:
            self.waits.append(self._slept)
        self._slept = 0.0

    def read(self, answer):
        if self._failures:
            raise self._failures.pop(0)
        return {}

    def broke(self, error):
        return error is BROKE

    async def answer(self, prepare):
        return prepare(None)

    async def run(self, function):
        return function()

    async def sleep(self, seconds):
        assert seconds <= 0.5
        self._slept += seconds

    def ask(self, *, retries=0, timeout_seconds=600.0, head="frames", on_text=None):
        exchange = Exchange(
            connection=self,
            waiting=self,
            deadline=Deadline.after(timeout_seconds),
            retries=retries,
            on_text=on_text,
            request=SimpleNamespace(
                head=head, request_id="id", to_tensors=dict, to_result=lambda answer: answer
            ),
        )
        return asyncio.run(exchange.result())


def test_an_answer_in_text_has_time_left_to_come_back():
    for head, least in (("frames", 0.0), ("text", 0.9)):
        script = Script()
        script.ask(head=head)
        (named,) = script.calls
        assert named["head"] == head
        assert least <= named["seconds"] - named["server_seconds"] <= 1


def test_what_python_lets_pass_through_no_coroutine_is_an_error_of_on_text():
    def stop(number, text):
        raise StopIteration

    script = Script()
    script.ask(on_text=stop)
    with pytest.raises(RuntimeError, match="on_text raised StopIteration"):
        script.calls[0]["on_text"](0, "text")


def test_call_whose_connection_broke_is_made_once_more_at_once():
    script = Script(BROKE)
    assert script.ask() == {}
    assert script.waits == []
    first, second = (named["seconds"] for named in script.calls)
    assert second <= first  # of one deadline


@pytest.mark.parametrize("second", [UnavailableError("broke as well"), REFUSED])
def test_error_of_a_connection_that_broke_outlives_that_of_the_next_call(second):
    script = Script(BROKE, second)
    with pytest.raises(UnavailableError) as caught:
        script.ask()
    assert caught.value is BROKE
    assert len(script.calls) == 2


def test_nothing_is_retried_by_default():
    script = Script(REFUSED)
    with pytest.raises(UnavailableError) as caught:
        script.ask()
    assert caught.value is REFUSED
    assert caught.value.request_id == "id"
    assert len(script.calls) == 1


def test_retries_come_after_growing_waits():
    script = Script(*[REFUSED] * 6)
    assert script.ask(retries=6) == {}
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(m / 2 <= wait <= m for wait, m in zip(script.waits, limits, strict=True))
    assert len(set(script.waits[-2:])) == 2, "no two clients wait alike"


def test_error_says_how_many_tries_were_made():
    script = Script(*[REFUSED] * 9)
    with pytest.raises(UnavailableError) as caught:
        script.ask(retries=2)
    assert str(caught.value) == "refused; gave up after 3 tries"
    assert caught.value.__cause__ is REFUSED
    assert len(script.calls) == 3


@pytest.mark.parametrize(
    "error",
    [InvalidRequestError, GroundserveError, RequestCancelledError, DeadlineExceededError],
)
def test_what_would_end_the_same_way_again_is_not_retried(error):
    script = Script(error("no"))
    with pytest.raises(error, match=r"^no$"):
        script.ask(retries=5)
    assert len(script.calls) == 1


def test_retries_end_with_the_time_of_the_call():
    script = Script(REFUSED)
    with pytest.raises(UnavailableError) as caught:
        script.ask(retries=5, timeout_seconds=0.2)
    assert caught.value is REFUSED
