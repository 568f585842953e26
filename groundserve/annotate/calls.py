"""Calls of models, each paid once: an answer is on the disk before anybody uses it.

DIR/calls/3f/3f9a41....json    a call: its stage, how it ended, the reply and its tokens
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

from groundserve.annotate.prompts import REPAIR, Stage, fill
from groundserve.annotate.replies import read_reply
from groundserve.annotate.settings import Settings
from groundserve.batch.group_scorer import JobError
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.replies import Reply, is_refusal
from groundserve.runtime.closing import Closing
from groundserve.storage import RunDirectoryError, Storage
from groundserve.strict_json import shown

_CALLS = "calls"
_MAX_REPLY_CHARACTERS = 4000
"""Of a reply, in the request to mend it."""
State = Literal["success", "truncated", "refused", "error"]
"""How a call, or an annotation, ended: as it should; cut at its most tokens; because the model or
its filter refused; or with a reply that cannot be used, also after it was asked to mend it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call that was answered."""

    stage: Stage
    state: State
    text: str
    usage: dict[str, int] | None
    """Fields of `Usage`; None where the endpoint does not say."""
    retries: int
    """Tries before that gave nothing."""
    is_repair: bool


class CallEndedError(GroundserveError):
    """A call has ended without a reply that can be used, for good."""

    def __init__(self, state: State, message: str) -> None:
        super().__init__(f"{state}: {message}")
        self.state = state


class Calls(Closing):
    """Asks models, from any number of threads, and remembers what they said."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        """Connect lazily."""
        self._settings, self._storage = settings, storage
        self._next, self._lock = time.monotonic(), threading.Lock()
        self._held = ExitStack()
        self._endpoints = {
            stage: [
                self._held.enter_context(Endpoint(one, max_connections=settings.concurrency))
                for one in options
            ]
            for stage, options in settings.endpoints.items()
        }

    def ask(
        self,
        stage: Stage,
        content: Sequence[Mapping[str, Any]],
        use: Callable[[Any], Any] = lambda reply: reply,
    ) -> Any:
        """Return what `use` makes of a model's reply, which is asked once more to mend it.

        Args:
            stage: Decides who is asked, and what `read_reply` makes of the reply.
            content: The message's parts.
            use: Raises ValueError where the reply cannot be used.

        Raises:
            CallEndedError: The model refused, or neither reply can be used.
            UnavailableError: The endpoint does not answer.
            JobError: It takes no request of ours, the account is empty, or the disk is full.
        """
        text, problem = "", ""
        for is_repair in (False, True):
            if is_repair:
                mend = fill(self._settings.prompts[REPAIR], reply=text, problem=problem)
                content = [*content, {"type": "text", "text": mend}]
            try:
                call = self._answered(stage, content, is_repair=is_repair)
            except RunDirectoryError as error:  # else every further call is paid for nothing
                raise JobError(f"a worker cannot keep answers: {error}") from error
            if call.state == "refused":
                raise CallEndedError("refused", f"{stage}: the model refused: {shown(call.text)}")
            try:
                return use(read_reply(stage, call.text))
            except ValueError as error:
                text, problem = call.text[:_MAX_REPLY_CHARACTERS], str(error)
        raise CallEndedError(
            "truncated" if call.state == "truncated" else "error",
            f"{stage}: InvalidReply: {problem}; the reply begins {shown(text)}",
        )

    def close(self) -> None:
        """End what is under way, in all threads."""
        self._held.close()

    def _answered(
        self, stage: Stage, content: Sequence[Mapping[str, Any]], *, is_repair: bool
    ) -> Call:
        """Return an answered call: one of before, or one that is made, and written, now."""
        key = call_key(self._settings.request(stage, content))
        name = f"{_CALLS}/{key[:2]}/{key}.json"
        with suppress(FileNotFoundError):
            return Call(**json.loads(self._storage.read(name)))
        reply = self._reply(stage, content, first=int(key[:8], 16))
        is_refused = reply.is_refused or is_refusal(reply.text)
        is_cut = reply.finish_reason == "length"
        call = Call(
            stage=stage,
            state="refused" if is_refused else "truncated" if is_cut else "success",
            # JSON can spell half a surrogate pair, which no later request could repeat.
            text=reply.text.encode("utf-8", "replace").decode(),
            usage=None if reply.usage is None else asdict(reply.usage),
            retries=len(reply.retries),
            is_repair=is_repair,
        )
        self._storage.write(name, json.dumps(asdict(call)).encode())
        return call

    def _reply(self, stage: Stage, content: Sequence[Mapping[str, Any]], *, first: int) -> Reply:
        """Ask one endpoint, and where its client gives up the next."""
        endpoints = self._endpoints[stage]
        for number in range(first, first + len(endpoints)):
            self._keep_pace()
            try:
                return endpoints[number % len(endpoints)].ask(
                    content, **self._settings.fields(stage)
                )
            except QuestionFailedError as error:
                if error.kind == "rejected":
                    raise CallEndedError("error", f"{stage}: Rejected: {error}") from None
                failed = UnavailableError(f"{stage}: {error.kind}: {error}")
            except GroundserveError as error:
                raise JobError(f"{stage}: {error}") from error
        raise failed

    def _keep_pace(self) -> None:
        """Let calls begin at even distances, so many a minute."""
        if self._settings.calls_per_minute is not None:
            with self._lock:
                now = time.monotonic()
                start = max(now, self._next)
                self._next = start + 60 / self._settings.calls_per_minute
            time.sleep(start - now)


def call_key(request: Mapping[str, Any]) -> str:
    """Return a hash of a whole request, the pictures in it included."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def read_calls(storage: Storage) -> Iterator[Call]:
    """Yield every call of a run."""
    for folder in storage.names(_CALLS):
        for name in storage.names(f"{_CALLS}/{folder}"):
            if name.endswith(".json"):
                yield Call(**json.loads(storage.read(f"{_CALLS}/{folder}/{name}")))
