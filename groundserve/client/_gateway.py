"""A connection to a gateway: HTTP and JSON, which are made of tensors and into them again."""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from itertools import accumulate
from typing import Any

import httpx2
import numpy as np

from groundserve import errors
from groundserve.arguments import described
from groundserve.client._connection import (
    READY_SECONDS,
    Calling,
    Connection,
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
_OnPiece = Callable[[Piece], None] | None


class GatewayConnection(Connection):
    """Each call has a socket and an event loop of its own, which another thread may stop."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        root_certificates: str | os.PathLike[str] | None = None,
    ) -> None:
        """Connect lazily; for the arguments and errors see `BaseClient`."""
        try:
            self.url = str(httpx2.URL(url)).rstrip("/")
        except httpx2.InvalidURL:
            raise InvalidRequestError(
                f"url must be http://HOST:PORT of a gateway, got {described(url)}"
            ) from None
        is_encrypted = self.url.startswith("https:")
        if root_certificates is not None and not is_encrypted:
            raise InvalidRequestError(f"root_certificates goes with https://, got {described(url)}")
        try:
            trusted = ssl.create_default_context(cafile=root_certificates)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(
                f"root_certificates must be a file in PEM form, got {described(root_certificates)}"
            ) from error
        # Through a proxy https is a tunnel; of plain http it would read the key.
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": checked_headers(headers),
            "verify": trusted,
            "trust_env": is_encrypted,
        }
        self._process_id = os.getpid()
        self._is_closed = False
        self._calls: set[_Call] = set()

    def call(self, inputs: Tensors, how: Calling) -> _Call:
        """Return what sends a request once it is read."""
        options = json.loads(inputs["OPTIONS"][0]) | {"timeout_seconds": how.server_seconds}
        if how.is_streamed:
            options["stream"] = True
        queries = [text.decode() for text in inputs["QUERY"] if text]
        sent: dict[str, Any] = {"headers": {"x-request-id": how.request_id}}
        if "VIDEO" in inputs:
            sent["data"] = {"options": json.dumps(options), "query": queries}
            sent["files"] = {"video": inputs["VIDEO"].tobytes()}
        else:
            video = inputs["VIDEO_URI"][0].decode()
            is_url = "://" in video and not video.startswith(_STORED)
            options["video_url" if is_url else "video_id"] = video.removeprefix(_STORED)
            sent["json"] = {**options, "queries": queries}

        async def send(on_piece: _OnPiece) -> Tensors:
            async with asyncio.timeout(how.seconds):
                answer = await self._send(_PATHS[how.head], sent, on_piece)
            return (_score_tensors if how.head == "frames" else _answer_tensors)(answer)

        return _Call(send)

    def read(self, call: _Call, on_piece: _OnPiece) -> Tensors:
        """Send, and wait for the answer, or raise what became of it."""
        self._calls.add(call)
        try:
            self.check_open()
            return call.runner.run(call.send(on_piece))
        except asyncio.CancelledError:
            raise RequestCancelledError(
                "the request was cancelled: its client was closed"
            ) from None
        except TimeoutError:
            raise DeadlineExceededError(
                f"no answer from {self.url} within the timeout; allow more time or ask for less"
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise UnavailableError(
                f"failed to connect to {self.url}; is the gateway running there?"
            ) from error
        except httpx2.HTTPError as error:
            raise UnavailableError(BROKE.format(url=self.url)) from error
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise foreign_answer(f"JSON of another form: {type(error).__name__}") from error
        finally:
            self._calls.discard(call)
            call.runner.close()

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

    async def _send(self, path: str, sent: dict[str, Any], on_piece: _OnPiece) -> Any:
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        async with (
            httpx2.AsyncClient(**self._options, timeout=timeout) as client,
            client.stream("POST", path, **sent) as response,
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

    def _get(self, path: str, timeout_seconds: float) -> dict[str, Any]:
        self.check_process()
        seconds = min(timeout_seconds, READY_SECONDS)
        try:
            with httpx2.Client(**self._options, timeout=seconds) as client:
                found = {} if self._is_closed else client.get(path).json()
        except (httpx2.HTTPError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class _Call:
    """One request, run once; another thread may cancel it before, meanwhile and after."""

    def __init__(self, send: Callable[[_OnPiece], Coroutine[Any, Any, Tensors]]) -> None:
        self.send, self.runner = send, asyncio.Runner()
        self._loop = self.runner.get_loop()

    def cancel(self) -> None:
        def stop() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(stop)


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
    kinds = {"FRAME_LOGITS": np.float32, "FRAME_SCORES": np.float32, "SELECTED_FRAMES": np.int64}
    return _common_tensors(answer) | {
        name: np.array([query[name.lower()] for query in answer["queries"]], kind)
        for name, kind in kinds.items()
    }


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
