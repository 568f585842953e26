"""When a request is sent again."""

from __future__ import annotations

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
    """A connection: calls fail as the script says."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[dict] = []
        self._failures = list(failures)

    def check_open(self):
        pass

    def call(self, tensors, how):
        self.calls.append(how._asdict())

    def read(self, call, on_piece):
        if self._failures:
            raise self._failures.pop(0)
        return {}

    def broke(self, error):
        return error is BROKE

    def ask(self, *, retries=0, timeout_seconds=600.0, head="frames"):
        return Exchange(
            connection=self,
            deadline=Deadline.after(timeout_seconds),
            retries=retries,
            is_streamed=False,
            deliver=None,
            request=SimpleNamespace(
                head=head, request_id="id", to_tensors=dict, to_result=lambda answer: answer
            ),
        ).result()


@pytest.fixture
def waits(monkeypatch):
    """How long it waits before each next try; no time passes."""
    waits = []
    monkeypatch.setattr(Exchange, "_wait", lambda self, seconds: waits.append(seconds))
    return waits


def test_an_answer_in_text_has_time_left_to_come_back():
    for head, least in (("frames", 0.0), ("text", 0.9)):
        script = Script()
        script.ask(head=head)
        (named,) = script.calls
        assert named["head"] == head
        assert least <= named["seconds"] - named["server_seconds"] <= 1


def test_call_whose_connection_broke_is_made_once_more(waits):
    script = Script(BROKE)
    assert script.ask() == {}
    assert waits == [0.2], "gRPC may still hold the lost connection"
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


def test_retries_come_after_growing_waits(waits):
    script = Script(*[REFUSED] * 6)
    assert script.ask(retries=6) == {}
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(m / 2 <= wait <= m for wait, m in zip(waits, limits, strict=True))
    assert len(set(waits[-2:])) == 2, "no two clients wait alike"


def test_error_says_how_many_tries_were_made(waits):
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
