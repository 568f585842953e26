"""A connection to a gateway: HTTP and JSON, which are made of tensors and into them again."""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from itertools import accumulate
from typing import Any

import numpy as np

from groundserve import errors
from groundserve.arguments import described
from groundserve.client._connection import (
    READY_SECONDS,
    Piece,
    Tensors,
    checked_headers,
    text_tensor,
)
from groundserve.client._failures import BROKE
from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.results import foreign_answer

_CONNECT_SECONDS = 10.0
_STORED = "groundserve://videos/"
_PATHS = {"frames": "/v1/score", "text": "/v1/ask"}
_BUSY = (408, 429, 502, 503)


class GatewayConnection:
    """Does what `Connection` does; each call has a socket and an event loop of its own."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        root_certificates: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connect lazily; for the arguments and errors see `BaseClient`."""
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError("client", "httpx2") from error
        try:
            self.url = str(httpx2.URL(url)).rstrip("/")
        except httpx2.InvalidURL:
            raise InvalidRequestError(
                f"url must be http://HOST:PORT of a gateway, got {described(url)}"
            ) from None
        if root_certificates is not None and not self.url.startswith("https:"):
            raise InvalidRequestError(f"root_certificates goes with https://, got {described(url)}")
        try:
            self._trusted = ssl.create_default_context(cafile=root_certificates)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(
                f"root_certificates must be a file in PEM form, got {described(root_certificates)}"
            ) from error
        self._headers = dict(checked_headers(headers))
        self._process_id = os.getpid()
        self._is_closed = False
        self._calls: set[_Call] = set()

    def check_process(self) -> None:
        """Raise InvalidRequestError after a fork, as a client of gRPC does."""
        if os.getpid() != self._process_id:
            raise InvalidRequestError("a client must be used in the process that made it")

    def check_open(self) -> None:
        """Raise RequestCancelledError once closed."""
        if self._is_closed:
            raise RequestCancelledError("the client is closed")

    def call(
        self,
        inputs: Tensors,
        *,
        seconds: float,
        server_seconds: float,
        request_id: str,
        head: str,
        is_streamed: bool,
    ) -> _Call:
        """Return what sends a request once it is read."""
        body = json.loads(inputs["OPTIONS"][0])
        body["timeout_seconds"] = server_seconds
        queries = [text.decode() for text in inputs["QUERY"]]
        if is_streamed:
            body["stream"] = True
        if "VIDEO" in inputs:
            fields = {"options": json.dumps(body), "query": [one for one in queries if one]}
            sent = {"data": fields, "files": {"video": inputs["VIDEO"].tobytes()}}
        else:
            video = inputs["VIDEO_URI"][0].decode()
            is_url = "://" in video and not video.startswith(_STORED)
            body["video_url" if is_url else "video_id"] = video.removeprefix(_STORED)
            sent = {"json": {**body, "queries": [one for one in queries if one]}}
        headers = {**self._headers, "x-request-id": request_id}
        return _Call(self, seconds, head, {"headers": headers, **sent})

    def read(self, call: _Call, on_piece: Callable[[Piece], None] | None) -> Tensors:
        """Send, and wait for the answer, or raise what became of it."""
        self._calls.add(call)
        try:
            self.check_open()
            return call.run(on_piece)
        finally:
            self._calls.discard(call)

    def broke(self, error: UnavailableError) -> bool:
        """Tell whether `read` raised this because the connection was lost under the call."""
        return str(error) == BROKE.format(url=self.url)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Ask whether the gateway has a server that is ready."""
        return bool(self._get("/readyz", timeout_seconds).get("ready"))

    def ready_models(self, names: Iterable[str], timeout_seconds: float) -> list[str]:
        """Return those families that answer now; none where the gateway does not."""
        models = self._get("/v1/models", timeout_seconds).get("data", [])
        known = {one.get("id") for one in models if isinstance(one, dict)}
        return [name for name in names if name in known]

    def close(self) -> None:
        """End all calls."""
        self._is_closed = True
        for call in list(self._calls):
            call.cancel()

    @property
    def options(self) -> dict[str, Any]:
        """What a client of HTTP is made with."""
        # Through a proxy https is a tunnel; of plain http it would read the key.
        is_encrypted = self.url.startswith("https:")
        return {"base_url": self.url, "verify": self._trusted, "trust_env": is_encrypted}

    def _get(self, path: str, timeout_seconds: float) -> dict[str, Any]:
        import httpx2

        self.check_process()
        seconds = min(timeout_seconds, READY_SECONDS)
        try:
            with httpx2.Client(**self.options, timeout=seconds) as client:
                found = {} if self._is_closed else client.get(path, headers=self._headers).json()
        except (httpx2.HTTPError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class _Call:
    """One request on its way, which another thread may end at any moment."""

    def __init__(
        self, connection: GatewayConnection, seconds: float, head: str, sent: dict[str, Any]
    ) -> None:
        self._connection, self._seconds, self._sent = connection, seconds, sent
        self._head = head
        self._is_cancelled = False
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def cancel(self) -> None:
        """End it; the gateway sees the connection close."""
        self._is_cancelled = True
        if self._running is not None:
            loop, task = self._running
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(task.cancel)

    def run(self, on_piece: Callable[[Piece], None] | None) -> Tensors:
        """Send it and wait, in the caller's thread."""
        import httpx2

        url = self._connection.url
        try:
            answer = asyncio.run(self._run(on_piece))
        except asyncio.CancelledError:
            raise RequestCancelledError(
                "the request was cancelled: its client was closed"
            ) from None
        except TimeoutError:
            raise DeadlineExceededError(
                f"no answer from {url} within the timeout; allow more time or ask for less"
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise UnavailableError(
                f"failed to connect to {url}; is the gateway running there?"
            ) from error
        except httpx2.HTTPError as error:
            raise UnavailableError(BROKE.format(url=url)) from error
        try:
            return _score_tensors(answer) if self._head == "frames" else _answer_tensors(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise foreign_answer(f"JSON of another form: {type(error).__name__}") from error

    async def _run(self, on_piece: Callable[[Piece], None] | None) -> Any:
        import httpx2

        task = asyncio.current_task()
        assert task is not None, "this is one"
        self._running = asyncio.get_running_loop(), task
        if self._is_cancelled:
            raise asyncio.CancelledError
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        async with (
            asyncio.timeout(self._seconds),
            httpx2.AsyncClient(**self._connection.options, timeout=timeout) as client,
            client.stream("POST", _PATHS[self._head], **self._sent) as response,
        ):
            if response.status_code != 200:
                await response.aread()
                raise _error(response.status_code, response.text)
            if on_piece is None:
                return json.loads(await response.aread())
            async for event, data in _events(response.aiter_lines()):
                if event == "text":
                    on_piece(Piece(**json.loads(data)))
                elif event == "error":
                    raise _error(500, data)
                elif event == "result":
                    return json.loads(data)
            raise httpx2.RemoteProtocolError("the events end without a result")


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
    """Yield the kind and the data of each server-sent event."""
    kind = ""
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, value


def _error(status: int, body: str) -> GroundserveError:
    """Return what the gateway says as our error; of what is no gateway's, its status."""
    try:
        told = json.loads(body)["error"]
        name, message = str(told["type"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        name, message = "", f"the gateway answered with the status {status}"
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, GroundserveError):
        return GroundserveError(message) if known is MissingExtraError else known(message)
    if status in _BUSY:
        return UnavailableError(message)
    return (InvalidRequestError if 400 <= status < 500 else GroundserveError)(message)


def _score_tensors(answer: dict[str, Any]) -> Tensors:
    queries = answer["queries"]
    of_queries = {
        "FRAME_LOGITS": ("frame_logits", np.float32),
        "FRAME_SCORES": ("frame_scores", np.float32),
        "SELECTED_FRAMES": ("selected_frames", np.int64),
    }
    arrays = {
        name: np.array([query[key] for query in queries], kind)
        for name, (key, kind) in of_queries.items()
    }
    return _common_tensors(answer) | arrays


def _answer_tensors(answer: dict[str, Any]) -> Tensors:
    answers = answer["answers"]
    moments = [moment for one in answers for moment in one["moments"]]
    rows = [
        (one["start"], one["end"], math.nan if one["score"] is None else one["score"])
        for one in moments
    ]
    tensors: Tensors = {
        "ANSWER": text_tensor(*(one["text"] for one in answers)),
        "MOMENTS": np.array(rows, np.float64).reshape(-1, 3),
        "MOMENT_TEXTS": text_tensor(*(one["text"] for one in moments)),
    }
    for name in ("prompt_token_ids", "token_ids"):
        parts = [np.array(one[name], np.int32) for one in answers]
        tensors[name.upper()] = np.concatenate([np.empty(0, np.int32), *parts])
    for name, key in (
        ("PROMPT_OFFSETS", "prompt_token_ids"),
        ("TOKEN_OFFSETS", "token_ids"),
        ("MOMENT_OFFSETS", "moments"),
    ):
        tensors[name] = np.array([0, *accumulate(len(one[key]) for one in answers)], np.int64)
    return _common_tensors(answer) | tensors


def _common_tensors(answer: dict[str, Any]) -> Tensors:
    return {
        "FRAME_INDICES": np.array(answer["frame_indices"], np.int64),
        "PTS_SECONDS": np.array(answer["pts_seconds"], np.float64),
        # What is no part of INFO is left out by who reads it.
        "INFO": text_tensor(json.dumps(answer)),
    }
