"""The page of stored videos."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import ui

from groundserve.gateway.page.frame import (
    Visit,
    button,
    framed,
    heading,
    size_text,
    telling,
    visit_of,
)
from groundserve.gateway.store import Video


@ui.page("/videos", title="Videos - groundserve")
async def library_page(request: Request) -> None:
    """Show what is stored."""
    visit = visit_of(request)
    with framed(visit, "Videos"):
        heading("Videos", 1)
        _Library(visit)


class _Library:
    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        with ui.element("section").classes("panel"):
            self._quota = ui.label()
            self._bar = ui.linear_progress(show_value=False, size="8px")
            self._bar.props('rounded aria-label="Space used"')
        self._search = ui.input("Search by name", on_change=self._list)
        self._search.props("outlined dense clearable debounce=200").classes("w-full")
        self._places = ui.element("ul").classes("cards")
        self._list()

    def _list(self) -> None:
        desk, owner = self._visit.desk, self._visit.owner
        videos = desk.spool.store.videos(owner=owner.name, is_temporary=False)
        used = sum(video.num_bytes for video in videos)
        most = owner.key.max_stored_bytes if owner.key else desk.settings.max_spool_bytes
        count = f"{len(videos)} video{'s' * (len(videos) != 1)}"
        self._quota.text = f"{count}, {size_text(used)} of {size_text(most)}"
        self._bar.value = used / most
        jobs = desk.spool.store.jobs(owner=owner.name)
        busy = {job.video_id for job in jobs if job.finished_at is None}
        wanted = (self._search.value or "").lower()
        self._places.clear()
        with self._places:
            for video in videos[::-1]:
                if wanted in video.name.lower():
                    self._card(video, is_busy=video.id in busy)
        if not videos:
            with self._places, ui.element("li").classes("panel"):
                ui.label("Nothing is stored yet.")
                ui.link("Upload a video", "/")

    def _card(self, video: Video, *, is_busy: bool) -> None:
        with ui.element("li").classes("panel card"):
            image = ui.element("img").props('alt="" loading=lazy')
            image.props["src"] = f"/files/{video.id}/picture.jpg"
            heading(video.name, 2)
            state = "in use" if is_busy else f"last used {_ago(video.used_at)}"
            ui.label(f"{size_text(video.num_bytes)}, {state}").classes("muted")
            with ui.element("div").classes("line"):
                button("Ask", partial(ui.navigate.to, f"/?video={video.id}"), is_main=True)
                button("Delete", telling(partial(self._delete, video)))

    async def _delete(self, video: Video, *_: Any) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label(f"Delete {video.name}? Its results stay.")
            with ui.element("div").classes("line"):
                button("Delete", lambda: dialog.submit(True), is_main=True)
                button("Keep it", dialog.close)
        if await dialog:
            spool = self._visit.desk.spool
            spool.delete(spool.get(self._visit.owner, video.id))
            self._list()


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"
