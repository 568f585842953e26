"""What every request gets, whatever its route: an id, a line in the log, caps, and one answer."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundserve.gateway.errors import RefusedError, error_response
from groundserve.gateway.settings import GatewaySettings
from groundserve.limits import MIB
from groundserve.serving.events import log_event

_LINGER_SECONDS = 1.0
_LINGER_BYTES = MIB
_ID = re.compile(r"[!-~]{1,64}")


class Metrics:
    """What is counted of requests."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "status")
        name = "groundserve_gateway"
        self.requests = Counter(
            f"{name}_requests", "Requests answered.", labels, registry=self.registry
        )
        self.seconds = Histogram(
            f"{name}_request_seconds",
            "From the head of a request to the end of its answer.",
            ("route",),
            registry=self.registry,
        )
        self.open = Gauge(f"{name}_open_requests", "Requests open.", registry=self.registry)

    def gauge(self, name: str, description: str, value: Any) -> None:
        """Add what is looked up when it is asked for: a function without arguments."""
        one = Gauge(f"groundserve_gateway_{name}", description, registry=self.registry)
        one.set_function(value)


class Envelope:
    """ASGI around the application."""

    def __init__(self, app: ASGIApp, *, settings: GatewaySettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._settings, scope, receive, send)
        with self._metrics.open.track_inprogress():
            try:
                if Headers(scope=scope).get("content-encoding", "identity") != "identity":
                    raise RefusedError(415, "InvalidRequestError", "bodies are taken uncompressed")
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as error:
                if not isinstance(error, RefusedError):
                    logging.getLogger(__name__).exception("a request failed")
                if not exchange.status:
                    await error_response(error)(scope, exchange.receive, exchange.send)
            finally:
                self._told(exchange)

    def _told(self, exchange: _Exchange) -> None:
        route = getattr(exchange.scope.get("route"), "path", "none")
        seconds = time.monotonic() - exchange.started
        self._metrics.requests.labels(route, exchange.status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        state = exchange.scope["state"]
        questions = {"questions": state.get("questions")} if self._settings.logs_questions else {}
        log_event(
            "request",
            request_id=state["request_id"],
            method=exchange.scope["method"],
            route=route,
            status=exchange.status,
            seconds=round(seconds, 6),
            key=state.get("owner"),
            body_bytes=exchange.num_bytes,
            **questions,
        )


class _Exchange:
    """One request: how far its body is, and what was answered."""

    def __init__(
        self, settings: GatewaySettings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self._settings = settings
        self.started = time.monotonic()
        self.status = 0
        self.num_bytes = 0
        self._is_complete = self._is_cut = False
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else str(uuid.uuid4())
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

    async def receive(self) -> Message:
        """Wait for the next part of the body, while it comes fast enough."""
        if self._is_complete:
            return await self._receive()
        settings = self._settings
        allowed = settings.body_seconds + self.num_bytes / settings.min_body_rate
        left = self.started + allowed - time.monotonic()
        try:
            async with asyncio.timeout(min(left, settings.body_seconds)):
                message = await self._receive()
        except TimeoutError:
            raise RefusedError(408, "TimeoutError", "the body came too slowly") from None
        if message["type"] == "http.request":
            self.num_bytes += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Add the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.scope["state"]["request_id"]
            headers["X-Content-Type-Options"] = "nosniff"
            if not self._is_complete and self.scope["method"] not in ("GET", "HEAD", "DELETE"):
                headers["Connection"] = "close"
                self._is_cut = True
        elif self._is_cut and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body"}
        # A caller who reads nothing holds nothing.
        async with asyncio.timeout(self._settings.body_seconds):
            await self._send(message)

    async def _linger(self) -> None:
        """Read a little of the body's rest: who is cut off amid sending gets no answer."""
        with suppress(TimeoutError, RefusedError):
            async with asyncio.timeout(_LINGER_SECONDS):
                until = self.num_bytes + _LINGER_BYTES
                while not self._is_complete and self.num_bytes < until:
                    if (await self.receive())["type"] == "http.disconnect":
                        return
