"""The page, put into the gateway's application."""

from __future__ import annotations

from fastapi import FastAPI
from nicegui import app as page_app
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundserve.gateway.jobs import Jobs
from groundserve.gateway.page import ask, batch, files, library, result, session
from groundserve.gateway.page.frame import FILES
from groundserve.gateway.work import Desk

PAGES = (ask, batch, library, result)
"""Their import adds what they show."""
_POLICY = (
    # NiceGUI makes templates and handlers of text in the browser; nothing is loaded from elsewhere.
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; form-action 'self'"
)


def mount_page(app: FastAPI, desk: Desk, jobs: Jobs) -> None:
    """Add the page at `/`, behind what the application answers itself."""
    page_app.state.gateway, page_app.state.jobs = desk, jobs
    page_app.add_static_files("/page", FILES)
    for module in (session, files, batch):
        app.include_router(module.router)
    page_app.add_middleware(session.SignedIn, access=desk.access)
    page_app.add_middleware(_Guarded)
    ui.run_with(
        app,
        title="groundserve",
        dark=None,
        language="en-US",
        gzip_middleware_factory=_Zipped,
        tailwind=False,
        show_welcome_message=False,
    )
    app.router.routes[-1] = _Pages("/", page_app)


class _Pages(Mount):
    """All paths but those of the API, which says itself what it does not know."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a path is one of the page's."""
        is_api = scope["path"].startswith("/v1/")
        return (Match.NONE, {}) if is_api else super().matches(scope)


class _Zipped(GZipMiddleware):
    """Compresses what all visitors get; videos and pictures stay as they are."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, minimum_size=1000, compresslevel=3)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_shared = scope["type"] == "http" and scope["path"].startswith("/_nicegui/")
        await (super().__call__ if is_shared else self.app)(scope, receive, send)


class _Guarded:
    """ASGI around the page: tells browsers to load nothing from another host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
                headers["Referrer-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, guarded)
