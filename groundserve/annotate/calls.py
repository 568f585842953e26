"""Calls of models, each paid once: an answer is on the disk before anybody uses it.

DIR/calls/3f/3f9a41....json    a call: its stage, how it ended, the reply and its tokens
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from groundserve.annotate.prompts import REPAIR
from groundserve.annotate.replies import InvalidReplyError
from groundserve.annotate.rules import Stage
from groundserve.annotate.settings import Settings
from groundserve.batch.group_scorer import JobError
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.replies import Reply, is_refusal
from groundserve.runtime.backoff import delay_seconds
from groundserve.runtime.closing import Closing
from groundserve.storage import Storage
from groundserve.strict_json import shown

CALLS = "calls"
State = Literal["success", "truncated", "refused", "error"]
"""How a call, or an annotation, ended: as it should; cut at its most tokens; because the model or
its filter refused; or with a reply that cannot be used, also after it was asked to mend it."""
Content = Sequence[Mapping[str, Any]]
_Read = TypeVar("_Read")
_MAX_REPLY_CHARACTERS = 4000
"""Of a reply, in the request to mend it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that was answered."""

    stage: Stage
    model: str
    state: State
    text: str
    pictures: int
    """That it showed."""
    prompt_tokens: int | None
    """As the endpoint counts; None where it does not say. So the next."""
    completion_tokens: int | None
    retries: int
    """Tries before that gave nothing."""
    is_repair: bool


class CallEndedError(GroundserveError):
    """A call has ended without a reply that can be used, for good."""

    def __init__(self, state: State, message: str) -> None:
        super().__init__(message)
        self.state = state


class Calls(Closing):
    """Asks models, from any number of threads, and remembers what they said."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        """Connect lazily."""
        self._settings = settings
        self._storage = storage
        self._pace = _Pace(settings.calls_per_minute)
        self._held = ExitStack()
        # Options with a dict in them have no hash.
        different = {_place(one): one for it in settings.asked.values() for one in it.endpoints}
        self._endpoints = {
            place: self._held.enter_context(Endpoint(one, max_connections=settings.concurrency))
            for place, one in different.items()
        }

    def ask(self, stage: Stage, content: Content, read: Callable[[str], _Read]) -> _Read:
        """Return what `read` makes of a model's reply, which is asked once more to mend it.

        Args:
            stage: Decides who is asked.
            content: The message's parts.
            read: Raises InvalidReplyError.

        Raises:
            CallEndedError: The model refused, or neither reply can be used.
            UnavailableError: The endpoint does not answer.
            JobError: It takes no request of ours, or the account is empty.
        """
        call = self._finished(stage, content, is_repair=False)
        try:
            return _use(call, read)
        except InvalidReplyError as error:
            reply = call.text[:_MAX_REPLY_CHARACTERS]
            text = self._settings.prompts.fill(REPAIR, reply=reply, problem=error)
        mended = self._finished(stage, [*content, {"type": "text", "text": text}], is_repair=True)
        try:
            return _use(mended, read)
        except InvalidReplyError as error:
            raise CallEndedError(
                "truncated" if mended.state == "truncated" else "error",
                f"{stage}: InvalidReply: {error}; the reply begins {shown(mended.text)}",
            ) from None

    def close(self) -> None:
        """End what is under way, in all threads."""
        self._held.close()

    def _finished(self, stage: Stage, content: Content, *, is_repair: bool) -> Call:
        """Return an answered call: one of before, or one that is made, and written, now."""
        fields, endpoints = self._settings.fields(stage), self._settings.asked[stage].endpoints
        request = endpoints[0].request(content, **fields)
        key = call_key(request)
        name = f"{CALLS}/{key[:2]}/{key}.json"
        try:
            return Call(**json.loads(self._storage.read(name)))
        except FileNotFoundError:
            pass
        options = endpoints[int(key[:8], 16) % len(endpoints)]
        reply, num_failed = self._reply(stage, self._endpoints[_place(options)], content, fields)
        usage = reply.usage
        call = Call(
            stage=stage,
            model=options.model,
            state=_state(reply),
            text=reply.text,
            pictures=sum(part["type"] == "image_url" for part in content),
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            completion_tokens=None if usage is None else usage.completion_tokens,
            retries=num_failed + len(reply.retries),
            is_repair=is_repair,
        )
        self._storage.write(name, json.dumps(asdict(call)).encode())
        return call

    def _reply(
        self, stage: Stage, endpoint: Endpoint, content: Content, fields: Mapping[str, Any]
    ) -> tuple[Reply, int]:
        """Ask, and again where the connection gave nothing whole; the client waits for the rest."""
        num_tries = self._settings.asked[stage].endpoints[0].max_attempts
        for number in range(num_tries):
            self._pace.wait()
            try:
                return endpoint.ask(content, **fields), number
            except QuestionFailedError as error:
                if error.kind == "rejected":
                    raise CallEndedError("error", f"{stage}: Rejected: {error}") from None
                if error.kind != "broken" or number + 1 == num_tries:
                    raise UnavailableError(f"{stage}: {error.kind}: {error}") from None
                time.sleep(delay_seconds(number + 1))
            except GroundserveError as error:
                raise JobError(f"{stage}: {error}") from error
        raise AssertionError("the last try returns or raises")


class _Pace:
    """Lets calls begin at even distances, so many a minute."""

    def __init__(self, calls_per_minute: float | None) -> None:
        self._seconds = 60 / calls_per_minute if calls_per_minute else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._seconds
        time.sleep(start - now)


def call_key(request: Mapping[str, Any]) -> str:
    """Return a hash of a whole request, the pictures in it included."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def read_calls(storage: Storage) -> Iterator[Call]:
    """Yield every call of a run."""
    for folder in storage.names(CALLS):
        for name in storage.names(f"{CALLS}/{folder}"):
            if name.endswith(".json"):
                yield Call(**json.loads(storage.read(f"{CALLS}/{folder}/{name}")))


def _place(options: EndpointOptions) -> tuple[str, str, str | None]:
    return options.url, options.model, options.api_key


def _state(reply: Reply) -> State:
    if reply.is_refused or is_refusal(reply.text):
        return "refused"
    return "truncated" if reply.finish_reason == "length" else "success"


def _use(call: Call, read: Callable[[str], _Read]) -> _Read:
    if call.state == "refused":
        raise CallEndedError("refused", f"{call.stage}: the model refused: {shown(call.text)}")
    return read(call.text)
