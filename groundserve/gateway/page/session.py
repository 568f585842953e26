"""Who looks at the page: the API key, kept in a cookie that no script reads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from nicegui import ui
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from groundserve.gateway.access import COOKIE, Access
from groundserve.gateway.errors import RefusedError
from groundserve.gateway.page.frame import button, framed, heading

_PATH = "/login"
_SECONDS = 30 * 86_400
_OPEN = (_PATH, "/_nicegui", "/page/")
"""What needs no key: it shows nothing of anybody's."""

router = APIRouter(include_in_schema=False)


class SignedIn:
    """ASGI around the page: sends visitors without a valid key to where one is asked for."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may be seen."""
        app: Any = self._app
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN):
            request = HTTPConnection(scope)
            try:
                self._access.owner(request.cookies.get(COOKIE))
            except RefusedError:
                app = RedirectResponse(f"{_PATH}?to={quote(request.url.path)}", 303)
        await app(scope, receive, send)


@router.post(_PATH)
async def sign_in(
    request: Request, key: str = Form("", max_length=256), to: str = Form("/", max_length=1024)
) -> RedirectResponse:
    """Keep a valid key in the browser."""
    access: Access = request.app.state.gateway.access
    if not to.startswith("/") or to.startswith(("//", "/\\")):  # another host's page
        to = "/"
    try:
        access.owner(key.strip())
    except RefusedError:
        return RedirectResponse(f"{_PATH}?wrong=1&to={quote(to)}", 303)
    answer = RedirectResponse(to, 303)
    is_secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, key.strip(), max_age=_SECONDS, httponly=True, samesite="lax", secure=is_secure
    )
    return answer


@router.post("/logout")
async def sign_out() -> RedirectResponse:
    """Forget the key."""
    answer = RedirectResponse(_PATH, 303)
    answer.delete_cookie(COOKIE)
    return answer


@ui.page(_PATH, title="Sign in - groundserve")
async def sign_in_page(to: str = "/", wrong: bool = False) -> None:
    """Ask for a key."""
    with framed(), ui.element("form").props(f"method=post action={_PATH}").classes("panel narrow"):
        heading("Sign in", 1)
        ui.label("This server asks for an API key, which its operator gives you.")
        hidden = ui.element("input")
        hidden.props["type"], hidden.props["name"], hidden.props["value"] = "hidden", "to", to
        key = ui.input("API key", password=True).props(
            "name=key outlined autofocus autocomplete=current-password"
        )
        key.classes("w-full")
        if wrong:
            ui.label("This key is not valid.").classes("problem").props("role=alert")
        button("Sign in", is_main=True).props("type=submit")
