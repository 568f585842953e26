"""The first page: a video, questions, and what this browser asked before."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Any, get_args

from fastapi import Request
from nicegui import ui

from groundserve.errors import InvalidRequestError
from groundserve.families import get_family
from groundserve.fetching import without_secrets
from groundserve.gateway.page.demo import draw_demo
from groundserve.gateway.page.frame import (
    Visit,
    button,
    framed,
    heading,
    size_text,
    tell,
    telling,
    visit_of,
)
from groundserve.gateway.requests import BODIES, Asked, Kind
from groundserve.gateway.store import Job, Video
from groundserve.options import DEFAULT_NUM_FRAMES, Task
from groundserve.url_reader import open_url

_DEMO_OPTIONS: dict[str, dict[str, Any]] = {
    "videoitg": {"sampling": "infer", "sample_fps": 1.0, "top_k": 6},
    "vtimellm": {},
}
"""Of families whose small checkpoints, which come with groundserve, know drawn videos."""


def kind_of(family: str) -> Kind:
    """Return which request a family answers."""
    return "score" if get_family(family).head == "frames" else "ask"


async def begin(visit: Visit, kind: Kind, given: dict[str, Any]) -> Job:
    """Begin what is asked of a stored video in the background, as the API does."""
    owner = visit.owner
    owner.count_request()
    body = BODIES[kind].model_validate_json(json.dumps(given))
    async with AsyncExitStack() as held:
        held.enter_context(owner.at_work())
        video = visit.desk.spool.get(owner, body.video_id)
        held.enter_context(visit.desk.spool.pinned(video))
        asked = Asked.of(kind, body, video)
        return visit.jobs.add(asked, owner, str(uuid.uuid4()), held)


async def fetch(visit: Visit, url: str) -> Video:
    """Store the video behind a URL."""
    owner, desk = visit.owner, visit.desk
    owner.count_request()
    with owner.at_work():
        async with open_url(url, desk.settings.fetch_policy) as chunks:
            name = without_secrets(url)
            return await desk.spool.receive(chunks, owner, name=name, is_temporary=False)


class AskForm:
    """What is filled in."""

    def __init__(self, visit: Visit, video: Video | None) -> None:
        self._visit, self._video = visit, video
        with ui.element("section").classes("panel"):
            heading("1. Video")
            self._choose_video()
        with ui.element("section").classes("panel"):
            heading("2. Questions")
            self._queries = ui.textarea("One question a line").props(
                "outlined autogrow input-style='min-height:4.5em'"
            )
            self._queries.classes("w-full").on("keydown.ctrl.enter", telling(self._ask))
            self._choose_model()
        with ui.element("div").classes("line"):
            button("Ask", telling(self._ask), icon="search", is_main=True)
            ui.label("or press Ctrl+Enter").classes("muted wide")

    def _choose_video(self) -> None:
        desk, owner = self._visit.desk, self._visit.owner
        with ui.element("label").classes("drop") as drop:
            ui.icon("video_file", size="32px")
            ui.label("Choose a video, or drop one here")
            ui.element("input").props('type=file accept="video/*,.mkv" aria-label="Video file"').on(
                "change",
                js_handler="e => groundserve.upload(e.target.closest('.drop'), e.target.files[0])",
            )
            ui.element("progress").props('hidden aria-label="Upload"')
        drop.on("dragover", js_handler="e => e.preventDefault()")
        drop.on(
            "drop",
            js_handler="e => { e.preventDefault(); "
            "groundserve.upload(e.currentTarget, e.dataTransfer.files[0]) }",
        )
        drop.on("told", telling(self._uploaded), js_handler="e => emit(e.detail)")
        with ui.element("div").classes("pair"):
            if desk.settings.fetch_policy.hosts:
                with ui.element("div").classes("line"):
                    self._url = ui.input("or the URL of a video").props("outlined dense type=url")
                    self._url.classes("grow").on("keydown.enter", telling(self._fetch))
                    self._fetching = button("Fetch", telling(self._fetch))
            stored = desk.spool.store.videos(owner=owner.name, is_temporary=False)
            names = {one.id: f"{one.name} ({size_text(one.num_bytes)})" for one in stored[::-1]}
            self._stored = (
                ui.select(
                    names,
                    label="or a stored video",
                    with_input=True,
                    value=self._video.id if self._video else None,
                    on_change=lambda event: self._pick(event.value),
                )
                .props("outlined dense options-dense")
                .classes("w-full")
            )
            self._stored.visible = bool(names)
        self._shown = ui.label().classes("chosen").props("role=status")
        self._tell_video()

    def _choose_model(self) -> None:
        families = self._visit.desk.upstreams.families()
        with ui.element("div").classes("pair"):
            self._family = ui.select(
                families, label="Model", value=families[0] if families else None
            ).props("outlined dense options-dense")
            self._task = ui.select(list(get_args(Task)), label="Task", value="moment").props(
                "outlined dense options-dense"
            )
            self._frames = ui.number(
                "Frames to look at", placeholder=f"up to {DEFAULT_NUM_FRAMES}", min=1, precision=0
            ).props("outlined dense")
            self._top_k = ui.number("Frames to choose", value=8, min=1, precision=0)
            self._top_k.props("outlined dense")
        self._task.bind_visibility_from(self._family, "value", lambda name: self._is("ask", name))
        self._top_k.bind_visibility_from(
            self._family, "value", lambda name: self._is("score", name)
        )
        if not families:
            ui.label("No model is ready. This page can be used once a server is.").classes(
                "problem"
            ).props("role=alert")

    @staticmethod
    def _is(kind: Kind, family: str | None) -> bool:
        return bool(family) and kind_of(str(family)) == kind

    def _pick(self, video_id: str | None) -> None:
        try:
            self._video = (
                self._visit.desk.spool.get(self._visit.owner, video_id) if video_id else None
            )
        except Exception as error:  # noqa: BLE001 - told
            tell(error)
        self._tell_video()

    def _tell_video(self) -> None:
        video = self._video
        self._shown.text = f"{video.name}, {size_text(video.num_bytes)}" if video else ""
        self._shown.visible = video is not None

    async def _uploaded(self, event: Any) -> None:
        if "error" in event.args:
            raise InvalidRequestError(event.args["error"]["message"])
        self._pick(event.args["id"])

    async def _fetch(self, *_: Any) -> None:
        self._fetching.props("loading")
        try:
            self._video = await fetch(self._visit, (self._url.value or "").strip())
        finally:
            self._fetching.props(remove="loading")
        self._tell_video()

    async def _ask(self, *_: Any) -> None:
        if self._video is None:
            raise InvalidRequestError("choose a video first")
        if not self._family.value:
            raise InvalidRequestError("no model is ready; try again later")
        kind = kind_of(self._family.value)
        given: dict[str, Any] = {
            "video_id": self._video.id,
            "queries": [line.strip() for line in self._queries.value.splitlines() if line.strip()],
            "model": self._family.value,
        }
        if self._frames.value:
            given["num_frames"] = int(self._frames.value)
        if kind == "ask":
            given["task"] = self._task.value
        elif not given["queries"]:
            raise InvalidRequestError("write a question first")
        elif self._top_k.value:
            given["top_k"] = int(self._top_k.value)
        job = await begin(self._visit, kind, given)
        ui.navigate.to(f"/results/{job.id}")


@ui.page("/", title="groundserve")
async def ask_page(request: Request, video: str = "") -> None:
    """Ask something."""
    visit = visit_of(request)
    found = visit.desk.spool.store.videos(id=video, owner=visit.owner.name)
    with framed(visit, "Ask"):
        heading("Ask a video", 1)
        ui.label("Choose a video and write what you look for: you get the moments that show it.")
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                AskForm(visit, found[0] if found else None)
            with ui.element("div").classes("stack"):
                _show_demo(visit)
                history = ui.element("section").classes("panel")
                history.visible = False
    await ui.context.client.connected()
    past = await ui.run_javascript("groundserve.past()", timeout=10.0)
    _show_history(visit, history, past)


def _show_demo(visit: Visit) -> None:
    served = [name for name in _DEMO_OPTIONS if name in visit.desk.upstreams.families()]
    if not served or find_spec("sklearn") is None:
        return
    with ui.element("section").classes("panel accent stack"):
        heading("New here?")
        ui.label("See what an answer looks like: handwritten digits that move, and two questions.")
        for family in served:
            _offer_demo(visit, family)


def _offer_demo(visit: Visit, family: str) -> None:
    kind = kind_of(family)

    async def run(*_: Any) -> None:
        started.props("loading")
        owner = visit.owner
        try:
            content, queries = await asyncio.to_thread(draw_demo)

            async def chunks() -> AsyncIterator[bytes]:
                yield content

            video = await visit.desk.spool.receive(
                chunks(), owner, name="digits.mp4", is_temporary=False
            )
            given = {"video_id": video.id, "queries": queries, "model": family}
            job = await begin(visit, kind, given | _DEMO_OPTIONS[family])
        finally:
            started.props(remove="loading")
        ui.navigate.to(f"/results/{job.id}")

    label = "Try the drawn video" if kind == "score" else "Ask about the drawn video"
    started = button(label, telling(run), icon="play_arrow", is_main=True)


def _show_history(visit: Visit, panel: ui.element, past: list[dict[str, str]]) -> None:
    with panel:
        heading("Your results")
        with ui.element("ul").classes("history"):
            for one in past:
                if not visit.desk.spool.store.jobs(id=one["id"], owner=visit.owner.name):
                    continue
                panel.visible = True
                with ui.element("li"):
                    ui.link(one["title"], f"/results/{one['id']}")
                    ui.label(one["video"]).classes("muted")
