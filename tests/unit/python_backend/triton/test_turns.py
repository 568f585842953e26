from __future__ import annotations

import threading

import pytest

from groundserve.deadline import Deadline
from groundserve.errors import DeadlineExceededError, RequestCancelledError
from python_backend.triton import _turns
from python_backend.triton._answer import Answer
from python_backend.triton._turns import TurnTaking, Work


class Requests:
    """Requests by name: whose questions were answered, in order, and what became of each."""

    def __init__(self) -> None:
        self.turns = TurnTaking()
        self.order: list[str] = []
        self.results: dict[str, Answer | Exception] = {}
        self.ended = threading.Semaphore(0)
        self.held = threading.Event()
        """The first question is answered when it is set."""
        self.is_held = threading.Event()

    def work(self, name: str, num_questions: int = 1, deadline: Deadline | None = None) -> Work:
        deadline = deadline or Deadline.after(60.0)

        def turns():
            for _ in range(num_questions):
                deadline.check()
                self.is_held.set()
                assert self.held.wait(60)
                self.order.append(name)
                if self.turns.others_wait():
                    yield
            return Answer(outputs={})

        def finish(result: Answer | Exception) -> None:
            self.results[name] = result
            self.ended.release()

        return Work(turns=turns(), deadline=deadline, finish=finish)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.ended.acquire(timeout=60)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def test_each_question_of_one_request_is_followed_by_one_of_another(requests):
    requests.turns.add(requests.work("long", 4))
    assert requests.is_held.wait(60)
    requests.turns.add(requests.work("two", 2))
    requests.turns.add(requests.work("one"))
    requests.held.set()
    requests.wait_for(3)
    assert requests.order == ["long", "two", "one", "long", "two", "long", "long"]


@pytest.mark.parametrize(
    ("deadline", "error"),
    [
        (Deadline.after(60.0, is_cancelled=lambda: True), RequestCancelledError),
        (Deadline.after(0.0), DeadlineExceededError),
    ],
    ids=["left", "too_late"],
)
def test_requests_that_nobody_waits_for_make_room_while_a_question_is_answered(
    requests, deadline, error
):
    requests.turns.add(requests.work("held"))
    assert requests.is_held.wait(60)
    for number in range(2 * _turns._MAX_WAITING):  # `add` would not return
        requests.turns.add(requests.work(str(number), deadline=deadline))
    requests.turns.add(requests.work("last"))
    assert requests.order == []
    requests.held.set()
    requests.wait_for(2 * _turns._MAX_WAITING + 2)
    assert requests.order == ["held", "last"]
    assert {type(one) for one in requests.results.values()} == {Answer, error}


def test_request_that_fails_takes_no_other_with_it(requests):
    def fails():
        raise ValueError("a bug")
        yield

    failed: list[Answer | Exception] = []
    requests.held.set()
    requests.turns.add(Work(turns=fails(), deadline=Deadline.after(60.0), finish=failed.append))
    requests.turns.add(requests.work("next"))
    requests.wait_for(1)
    assert str(failed[0]) == "a bug"
