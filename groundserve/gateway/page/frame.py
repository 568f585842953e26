"""What all pages have: a visitor, the bar at the top, the look, and how errors are told."""

from __future__ import annotations

import html
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from fastapi import Request
from nicegui import ui

from groundserve.errors import GroundserveError
from groundserve.gateway.access import COOKIE, Owner
from groundserve.gateway.errors import public_error
from groundserve.gateway.jobs import Jobs
from groundserve.gateway.work import Desk

FILES = Path(__file__).parent / "static"
_HEAD = """
<link rel="stylesheet" href="/page/page.css">
<script type="module" src="/page/page.js"></script>
"""
_LINKS = {"Ask": "/", "Videos": "/videos", "Batch": "/batch"}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One browser's look at one page."""

    desk: Desk
    jobs: Jobs
    key: str | None

    @property
    def owner(self) -> Owner:
        """Whose things are shown; RefusedError once the key is taken back."""
        return self.desk.access.owner(self.key)


def visit_of(request: Request) -> Visit:
    """Return who asks for a page."""
    state = request.app.state
    return Visit(desk=state.gateway, jobs=state.jobs, key=request.cookies.get(COOKIE))


@contextmanager
def framed(visit: Visit | None = None, here: str = "") -> Iterator[None]:
    """Lay out a page, the content of which is the block's."""
    ui.add_head_html(_HEAD)
    with ui.header().classes("bar").props("bordered"):
        ui.link("groundserve", "/").classes("brand")
        if visit is not None:
            with ui.element("nav").props('aria-label="Pages"').classes("links"):
                for name, path in _LINKS.items():
                    if path == "/batch" and not visit.desk.settings.batch_dirs:
                        continue
                    link = ui.link(name, path)
                    if name == here:
                        link.props("aria-current=page")
            if visit.owner.key is not None:
                with ui.element("form").props("method=post action=/logout").classes("out"):
                    button(f"Sign out {visit.owner.name}").props("type=submit")
    main = ui.element("div").classes("page")
    ui.skip_link(target=main)
    with main:
        yield


def heading(text: str, level: int = 2) -> None:
    """Show a heading, whatever its text holds."""
    ui.html(html.escape(text), tag=f"h{level}", sanitize=False)


def button(
    text: str, on_click: Any = None, *, icon: str | None = None, is_main: bool = False
) -> ui.button:
    """Show a button; one of a group is the main one."""
    made = ui.button(text, on_click=on_click, icon=icon, color=None)
    return made.props("no-caps unelevated").classes("go" if is_main else "plain")


def tell(error: Exception) -> None:
    """Tell the visitor what is wrong, as the gateway's API does."""
    told = public_error(error)
    if type(told) is GroundserveError:
        logging.getLogger(__name__).error("the page failed", exc_info=error)
    ui.notify(
        sentence(str(told)), type="negative", timeout=0, close_button="Close", multi_line=True
    )


def sentence(text: str) -> str:
    """Return a message of ours as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"


def telling(work: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    """Return a handler of events that tells the visitor what went wrong."""

    @wraps(work)
    async def handle(*given: Any) -> None:
        try:
            await work(*given)
        except Exception as error:  # noqa: BLE001 - told, and logged where it is our fault
            tell(error)

    return handle


def size_text(num_bytes: float) -> str:
    """Return bytes as people read them."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"
