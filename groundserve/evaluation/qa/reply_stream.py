"""A reply as it comes: server-sent events of the chat format, or one JSON object."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from groundserve.limits import MIB

if TYPE_CHECKING:
    import httpx2

_MAX_BYTES = MIB
"""Of one reply, which is to be a letter."""
_DONE = b"[DONE]"
_REFUSALS = ("content_filter", "refusal")
"""Reasons to finish that say that the model, or a filter around it, refused."""


class BadReplyError(Exception):
    """One try gave no reply."""

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        is_retryable: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.is_retryable = is_retryable
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one request, as the endpoint counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the Video-LLM said."""

    text: str
    is_refused: bool
    """Whether the endpoint says that the model, or its filter, refused."""
    finish_reason: str | None
    usage: Usage | None
    """None where the endpoint does not say."""
    retries: tuple[str, ...] = ()
    """What was wrong with each earlier try: "rate_limited", "server_error", "timeout",
    "connection", "truncated" or "broken"."""


def read_reply(response: httpx2.Response, *, until: float) -> Reply:
    """Read a response whose status is 200.

    Args:
        response: Open, unread.
        until: When to give up, on the clock of `time.monotonic()`.

    Raises:
        BadReplyError: It is cut short, no JSON, too long, late, or an error after all.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _read_events(response, until=until)
    # Who does not stream answers with one object.
    value = _parse(read_body(response, until=until))
    choice = _first_choice(value)
    if choice is None:
        raise BadReplyError("broken", "the reply holds no choice")
    parts = _Parts()
    parts.add(choice.get("message"), choice.get("finish_reason"))
    return parts.reply(_usage(value))


def read_body(response: httpx2.Response, *, until: float) -> bytes:
    """Return all of a short body.

    Raises:
        BadReplyError: It is too long, or late.
    """
    return b"".join(_pieces(response, until=until))


def error_of_body(body: bytes) -> tuple[str | None, str]:
    """Return the code and the message of an error, in the chat format or any other.

    The message is as long as the endpoint made it, and may hold the key.
    """
    try:
        error = json.loads(body)["error"]
        code, message = error.get("code") or error.get("type"), error["message"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        code, message = None, body.decode("utf-8", "replace").strip() or "nothing"
    return (code if isinstance(code, str) else None), str(message)


class _Parts:
    """A reply that comes in parts."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._is_refused = False
        self.finish_reason: str | None = None

    def add(self, part: object, finish_reason: object) -> None:
        """Add a message, or what was added to it."""
        fields = part if isinstance(part, dict) else {}
        text = fields.get("content")
        if text is not None and not isinstance(text, str):
            raise BadReplyError("broken", "the reply's content is no text")
        self._texts.append(text or "")
        self._is_refused |= bool(fields.get("refusal")) or finish_reason in _REFUSALS
        if isinstance(finish_reason, str):
            self.finish_reason = finish_reason

    def reply(self, usage: Usage | None) -> Reply:
        return Reply(
            text="".join(self._texts),
            is_refused=self._is_refused,
            finish_reason=self.finish_reason,
            usage=usage,
        )


def _read_events(response: httpx2.Response, *, until: float) -> Reply:
    parts = _Parts()
    usage = None
    is_done = False
    for data in _events(response, until=until):
        if data == _DONE:
            is_done = True
            break
        value = _parse(data)
        usage = _usage(value) or usage
        choice = _first_choice(value)
        if choice is not None:
            parts.add(choice.get("delta"), choice.get("finish_reason"))
    # A connection that is closed may end a stream anywhere, without an error.
    if not is_done and parts.finish_reason is None:
        raise BadReplyError("truncated", "the stream ended before the reply did")
    return parts.reply(usage)


def _events(response: httpx2.Response, *, until: float) -> Iterator[bytes]:
    rest = b""
    for piece in _pieces(response, until=until):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()


def _pieces(response: httpx2.Response, *, until: float) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > _MAX_BYTES:
            raise BadReplyError("broken", f"the reply has more than {_MAX_BYTES} bytes")
        _require_time(until)
        yield piece
    _require_time(until)  # a connection that was cut may look like an end


def _require_time(until: float) -> None:
    if time.monotonic() > until:
        raise BadReplyError("timeout", "the reply did not end in time (timeout_seconds)")


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadReplyError("broken", "the reply is no JSON") from None
    if not isinstance(value, dict):
        raise BadReplyError("broken", "the reply is no JSON object")
    if value.get("error"):
        # In a stream that began well.
        _, message = error_of_body(data)
        raise BadReplyError("server_error", f"the endpoint answered with an error: {message}")
    return value


def _first_choice(value: dict[str, Any]) -> dict[str, Any] | None:
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None


def _usage(value: dict[str, Any]) -> Usage | None:
    usage = value.get("usage")
    fields = usage if isinstance(usage, dict) else {}
    prompt, completion = fields.get("prompt_tokens"), fields.get("completion_tokens")
    if not _is_count(prompt) or not _is_count(completion):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def _is_count(value: object) -> TypeGuard[int]:
    # Above that a float, as which it is priced, does not count by ones.
    return type(value) is int and 0 <= value <= 2**53
