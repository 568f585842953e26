"""The steps of a request, and when they begin again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from engine_build.triton.__main__ import RENDERINGS
from engine_build.triton.specs import model_specs
from groundserve import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.client._steps import STEPS, Exchange
from groundserve.deadline import Deadline
from groundserve.triton_messages import OTHER_ENGINES, SEATS_TAKEN

NAMES = list(STEPS["frames"])
REFUSED = UnavailableError("refused")
SEATS = UnavailableError(f"{SEATS_TAKEN}: it takes 7 gigapixels")
BROKE = UnavailableError("broke")


class Script:
    """A connection, and a way to wait for it: each `video_features` fails as the script says."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[str] = []
        self.named: list[dict] = []
        self.waits: list[float] = []
        self.is_closed = False
        self._failures = list(failures)
        self._slept = 0.0

    def check_open(self):
        if self.is_closed:
            raise RequestCancelledError("the client is closed")

    def call(self, model_name, inputs, outputs, **named):
        self.calls.append(model_name)
        self.named.append(named)
        if self._slept:
            self.waits.append(self._slept)
        self._slept = 0.0
        return model_name

    def read(self, model_name, outputs):
        if model_name == "video_features" and self._failures:
            raise self._failures.pop(0)
        return {}

    def broke(self, error):
        return error is BROKE

    async def answer(self, prepare):
        return prepare(None)

    async def sleep(self, seconds):
        assert seconds <= 0.5
        self._slept += seconds

    def ask(self, *, retries=0, timeout_seconds=600.0, head="frames"):
        exchange = Exchange(
            connection=self,
            waiting=self,
            deadline=Deadline.after(timeout_seconds),
            retries=retries,
            request=SimpleNamespace(head=head, request_id="id"),
        )
        return asyncio.run(exchange.tensors({}))


@pytest.mark.parametrize("head", STEPS)
def test_the_steps_are_those_of_the_ensemble(head):
    rendering = RENDERINGS[{"frames": "cpu", "text": "vtimellm-cpu"}[head]]
    ensemble = model_specs(rendering.layout, rendering.family, rendering.model)[0]
    assert {name: (step.inputs, step.outputs) for name, step in STEPS[head].items()} == {
        step.name: (tuple(t.name for t in step.inputs), tuple(t.name for t in step.outputs))
        for step in ensemble.steps
    }
    assert list(STEPS[head]) == [step.name for step in ensemble.steps]


def test_steps_begin_again_when_another_server_took_over_once():
    took_over = UnavailableError(f"in other words: {OTHER_ENGINES}")
    script = Script(took_over)
    assert script.ask() == {}
    assert script.calls == [*NAMES[:2], *NAMES]
    assert script.waits == []
    script = Script(took_over, took_over)
    with pytest.raises(UnavailableError, match="took over"):
        script.ask()
    assert script.calls == NAMES[:2] * 2


def test_call_whose_connection_broke_is_made_once_more_at_once():
    script = Script(BROKE)
    assert script.ask() == {}
    assert script.calls == ["admission", "video_features", "video_features", *NAMES[2:]]
    assert script.waits == []
    first, second = (named["seconds"] for named in script.named[1:3])
    assert second <= first  # of one deadline


@pytest.mark.parametrize("second", [UnavailableError("broke as well"), REFUSED])
def test_error_of_a_connection_that_broke_outlives_that_of_the_next_call(second):
    script = Script(BROKE, second)
    with pytest.raises(UnavailableError) as caught:
        script.ask()
    assert caught.value is BROKE
    assert script.calls == ["admission", "video_features", "video_features"]


def test_costly_video_is_asked_again_until_it_has_a_seat():
    script = Script(*[SEATS] * 6)
    assert script.ask() == {}
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(m / 2 <= wait <= m for wait, m in zip(script.waits, limits, strict=True))


def test_nothing_is_retried_by_default():
    script = Script(REFUSED)
    with pytest.raises(UnavailableError) as caught:
        script.ask()
    assert caught.value is REFUSED
    assert script.calls == NAMES[:2]


def test_retries_begin_with_the_first_step_after_growing_waits():
    script = Script(*[REFUSED] * 6)
    assert script.ask(retries=6) == {}
    assert script.calls == [*NAMES[:2] * 6, *NAMES]
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(m / 2 <= wait <= m for wait, m in zip(script.waits, limits, strict=True))
    assert len(set(script.waits[-2:])) == 2, "no two clients wait alike"


def test_error_says_how_many_tries_were_made():
    script = Script(*[REFUSED] * 9)
    with pytest.raises(UnavailableError) as caught:
        script.ask(retries=2)
    assert str(caught.value) == "refused; gave up after 3 tries"
    assert caught.value.__cause__ is REFUSED
    assert script.calls == NAMES[:2] * 3


@pytest.mark.parametrize(
    "error", [InvalidRequestError("no"), GroundserveError("no"), RequestCancelledError("no")]
)
def test_what_would_end_the_same_way_again_is_not_retried(error):
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        script.ask(retries=5)
    assert caught.value is error
    assert script.calls == NAMES[:2]


def test_retries_end_with_the_time_of_the_call():
    script = Script(REFUSED)
    with pytest.raises(UnavailableError) as caught:
        script.ask(retries=5, timeout_seconds=0.2)
    assert caught.value is REFUSED
    script = Script(REFUSED, DeadlineExceededError("too late"))
    with pytest.raises(DeadlineExceededError, match="too late; gave up after 2 tries"):
        script.ask(retries=5)
