"""What a request goes through: the ensemble's steps, waits for a seat, and retries."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from groundserve.client._connection import Answer, Call, Connection, Deliver, Tensors
from groundserve.client._request import Request, Result
from groundserve.deadline import Deadline
from groundserve.errors import DeadlineExceededError, GroundserveError, UnavailableError
from groundserve.triton_messages import HEAD, OTHER_ENGINES, SEATS_TAKEN

if TYPE_CHECKING:  # it brings what reads media, which is for Linux
    from groundserve.families.base import Head

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A call of one model."""

    inputs: tuple[str, ...]
    """Tensors it takes; either of the video's may be left out."""
    outputs: tuple[str, ...]
    """Tensors it answers."""
    answers_late: bool = False
    """Whether it answers with what it has when its time is up: it gets less than is left, for that
    answer to arrive."""


_ADMISSION = Step(inputs=("OPTIONS",), outputs=("ADMITTED",))
_VIDEO_FEATURES = Step(
    inputs=("ADMITTED", "VIDEO", "VIDEO_URI", "QUERY", "OPTIONS"),
    outputs=("FEATURES", "FRAME_INDICES", "PTS_SECONDS", "STAGE_INFO"),
)
STEPS: dict[Head, dict[str, Step]] = {
    "frames": {
        "admission": _ADMISSION,
        "video_features": _VIDEO_FEATURES,
        "grounding": Step(
            inputs=("FEATURES", "QUERY", "STAGE_INFO"), outputs=("FRAME_LOGITS", "STAGE_INFO_2")
        ),
        "frame_selector": Step(
            inputs=("FRAME_LOGITS", "FRAME_INDICES", "PTS_SECONDS", "OPTIONS", "STAGE_INFO_2"),
            outputs=("FRAME_SCORES", "SELECTED_FRAMES", "INFO"),
        ),
    },
    "text": {
        "admission": _ADMISSION,
        "video_features": _VIDEO_FEATURES,
        "generation": Step(
            inputs=("FEATURES", "QUERY", "OPTIONS", "STAGE_INFO"),
            outputs=(
                *("ANSWER", "TOKEN_IDS", "TOKEN_OFFSETS"),
                *("MOMENTS", "MOMENT_OFFSETS", "MOMENT_TEXTS"),
                *("PROMPT_TOKEN_IDS", "PROMPT_OFFSETS", "INFO"),
            ),
            answers_late=True,
        ),
    },
}
"""Of each head the ensemble's steps, in order."""
_FIRST_WAIT_SECONDS = 0.5
_MAX_WAIT_SECONDS = 8.0
"""Between two tries; of a costly video, which is sent again each time, too."""
_WAKE_SECONDS = 0.5
"""How long a wait may go on after its client was closed."""
_MAX_WAY_BACK_SECONDS = 1.0
_WAY_BACK_SHARE = 0.1
"""Of the time that is left, for an answer that is sent when its time is up."""


class Waiting(Protocol):
    """How a caller waits: all that the two clients differ in."""

    async def answer(self, prepare: Callable[[Deliver], Call]) -> Answer:
        """Begin the call and wait for its answer; whatever ends the wait ends the call."""
        ...

    async def run(self, function: Callable[[], T]) -> T:
        """Run what may take long and waits for no server."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


@dataclass(kw_only=True)
class Exchange(Generic[Result]):
    """One request on its way."""

    connection: Connection
    """To the server."""
    waiting: Waiting
    """How the caller waits."""
    deadline: Deadline
    """Of the whole request."""
    retries: int
    """How often it may begin again after UnavailableError."""
    request: Request[Result]
    """What is asked."""

    async def result(self) -> Result:
        """Return the answer."""
        tensors = await self.waiting.run(self.request.to_tensors)
        try:
            answer = await self.tensors(tensors)
        except GroundserveError as error:
            error.request_id = self.request.request_id
            raise
        return await self.waiting.run(partial(self.request.to_result, answer))

    async def tensors(self, tensors: Tensors) -> Tensors:
        """Add the outputs of all steps to the tensors, with as many tries as it may take."""
        may_begin_again = True
        num_tries = 1
        seat_waits = _waits()
        retry_waits = islice(_waits(), min(self.retries, sys.maxsize))
        while True:
            try:
                return await self._run_steps(tensors)
            except (UnavailableError, DeadlineExceededError) as error:
                is_passing = isinstance(error, UnavailableError)
                if is_passing and OTHER_ENGINES in str(error) and may_begin_again:
                    may_begin_again = False  # between two steps another server took over, once
                    continue
                # There is no queue for costly videos: waiting in one would hold what the small
                # ones need.
                is_seat = SEATS_TAKEN in str(error)
                seconds = next(seat_waits if is_seat else retry_waits, None) if is_passing else None
                if seconds is None or self.deadline.remaining_seconds() <= seconds:
                    if num_tries == 1:
                        raise
                    raise type(error)(f"{error}; gave up after {num_tries} tries") from error
                num_tries += not is_seat
            await self._wait(seconds)

    async def _run_steps(self, tensors: Tensors) -> Tensors:
        for model_name, step in STEPS[self.request.head].items():
            tensors = tensors | await self._infer(model_name, step, tensors)
        return tensors

    async def _infer(self, model_name: str, step: Step, tensors: Tensors) -> Tensors:
        """Call one model; once more where the connection broke under the call.

        A server closes each connection after a while, and a call may be on its way when it does.
        Whether that call was executed nobody knows, nor does it matter: no step changes anything.
        """
        try:
            return await self._call(model_name, step, tensors)
        except UnavailableError as error:
            if not self.connection.broke(error):
                raise
            broke = error
        try:
            return await self._call(model_name, step, tensors)
        except UnavailableError:
            raise broke from broke.__cause__  # what happened first is why

    async def _call(self, model_name: str, step: Step, tensors: Tensors) -> Tensors:
        self.connection.check_open()
        self.deadline.check()

        def prepare(deliver: Deliver) -> Call:
            seconds = self.deadline.remaining_seconds()
            way_back = min(_MAX_WAY_BACK_SECONDS, _WAY_BACK_SHARE * seconds)
            return self.connection.call(
                model_name,
                {name: tensors[name] for name in step.inputs if name in tensors},
                step.outputs,
                seconds=seconds,
                server_seconds=seconds - way_back * step.answers_late,
                request_id=self.request.request_id,
                # Asked at the door, where nothing has been sent or done yet.
                parameters={HEAD: self.request.head} if model_name == "admission" else {},
                deliver=deliver,
            )

        return self.connection.read(await self.waiting.answer(prepare), step.outputs)

    async def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self.connection.check_open()
            await self.waiting.sleep(min(seconds, _WAKE_SECONDS))
            seconds -= _WAKE_SECONDS


def _waits() -> Iterator[float]:
    """Yield how long to wait before each next try, in seconds.

    They differ, for those who ask at one time not to do so again.
    """
    seconds = _FIRST_WAIT_SECONDS
    while True:
        yield seconds * random.uniform(0.5, 1.0)
        seconds = min(2 * seconds, _MAX_WAIT_SECONDS)
