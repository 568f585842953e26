"""A result's page: how far it is, and then what came of it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from nicegui import ui

from groundserve.answers import AnswerResult
from groundserve.gateway.errors import RefusedError
from groundserve.gateway.page.ask import begin
from groundserve.gateway.page.frame import (
    Visit,
    button,
    framed,
    heading,
    sentence,
    telling,
    visit_of,
)
from groundserve.gateway.page.score_view import ScoreView
from groundserve.gateway.page.view import AnswerView, video_of
from groundserve.gateway.store import Job
from groundserve.results import ScoreResult

_LOOK_SECONDS = 0.3
_STAGES = {
    "queued": "Waiting for its turn",
    "fetching": "Fetching the video",
    "waiting": "Waiting for a server",
    "running": "Looking at the video",
}


@ui.page("/results/{job_id}", title="Result - groundserve")
async def result_page(request: Request, job_id: str) -> None:
    """Show a job, as it is and as it changes."""
    visit = visit_of(request)
    try:
        job = visit.jobs.get(visit.owner, job_id)
    except RefusedError:
        with framed(visit):
            heading("There is no such result", 1)
            ui.label("It may have been deleted: results are kept for a limited time.")
            ui.link("Ask something", "/")
        return
    with framed(visit):
        body = ui.element("div").classes("stack")
    asked = json.loads(job.request)
    title = " · ".join(asked["queries"]) or asked.get("task", job.kind)
    video = video_of(visit, job)
    ui.page_title(f"{title} - groundserve")
    if job.finished_at is None:
        with body:
            _Progress(visit, job, title, lambda: _show(visit, job_id, body, url=_base(request)))
    else:
        _show(visit, job_id, body, url=_base(request))
    await ui.context.client.connected()
    known = {"id": job.id, "title": title, "video": video.name if video else ""}
    ui.run_javascript(f"groundserve.remember({json.dumps(known)})")


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _show(visit: Visit, job_id: str, body: ui.element, *, url: str) -> None:
    """Show what has ended."""
    job = visit.jobs.get(visit.owner, job_id)
    body.clear()
    with body:
        if job.error is not None:
            _show_failure(visit, job)
        elif job.kind == "score":
            ScoreView(visit, job, ScoreResult.from_json(job.result or ""), url)
        else:
            AnswerView(visit, job, AnswerResult.from_json(job.result or ""), url)


def _show_failure(visit: Visit, job: Job) -> None:
    error = json.loads(job.error or "")["error"]
    asked = json.loads(job.request)

    async def again(*_: Any) -> None:
        kind: Any = job.kind
        ui.navigate.to(f"/results/{(await begin(visit, kind, asked)).id}")

    heading("No answer", 1)
    with ui.element("section").classes("panel").props("role=alert"):
        ui.label(sentence(error["message"])).classes("problem")
        ui.label(f"{error['type']}, request {job.request_id}").classes("muted")
        with ui.element("div").classes("line"):
            button("Ask again", telling(again), is_main=True)
            button("Ask something else", lambda: ui.navigate.to(f"/?video={job.video_id}"))


class _Progress:
    """Tells how far a job is until it has ended."""

    def __init__(self, visit: Visit, job: Job, title: str, on_end: Any) -> None:
        self._visit, self._id, self._on_end = visit, job.id, on_end
        heading(title, 1)
        with ui.element("section").classes("panel").props("role=status"):
            self._stage = ui.label()
            self._bar = ui.linear_progress(value=0, show_value=False, size="10px")
            self._bar.props('rounded aria-label="Frames decoded"')
            button("Cancel", telling(self._cancel))
        self._timer = ui.timer(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        try:
            job = self._visit.jobs.get(self._visit.owner, self._id)
        except RefusedError:  # deleted elsewhere
            self._timer.cancel()
            ui.navigate.reload()
            return
        if job.finished_at is not None:
            self._timer.cancel()
            self._on_end()
            return
        known = json.loads(self._visit.jobs.described(job))
        text = _STAGES.get(known["stage"], known["stage"])
        is_counted = bool(known["num_frames"])
        if is_counted:
            text += f": {known['frames_done']} of {known['num_frames']} frames decoded"
            self._bar.value = known["frames_done"] / known["num_frames"]
        self._bar.props(remove="indeterminate") if is_counted else self._bar.props("indeterminate")
        self._stage.text = text

    async def _cancel(self, *_: Any) -> None:
        self._timer.cancel()
        await self._visit.jobs.delete(self._visit.jobs.get(self._visit.owner, self._id))
        ui.notify("Cancelled.")
        ui.navigate.to("/")
