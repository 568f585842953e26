"""The page of batch runs, of the directories that the operator names."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from nicegui import ui

from groundserve.batch.report import clock, make_report
from groundserve.batch.status import Status, read_status
from groundserve.errors import GroundserveError
from groundserve.gateway.access import OwnerDep
from groundserve.gateway.errors import not_found
from groundserve.gateway.page.frame import framed, heading, sentence, visit_of
from groundserve.gateway.routes import DeskDep

_LOOK_SECONDS = 5.0
_STATES = {
    "empty": "not begun",
    "silent": "silent for long",
    "stopped": "stopped before its end",
}
router = APIRouter(include_in_schema=False)


@router.get("/batch/{number}/report.html")
async def report(number: int, owner: OwnerDep, desk: DeskDep) -> HTMLResponse:
    """Return a run's report."""
    places = desk.settings.batch_dirs
    if not 0 <= number < len(places):
        raise not_found("run")
    return HTMLResponse(await asyncio.to_thread(make_report, places[number]))


@ui.page("/batch", title="Batch - groundserve")
async def batch_page(request: Request) -> None:
    """Show how far runs are."""
    visit = visit_of(request)
    with framed(visit, "Batch"):
        heading("Batch runs", 1)
        for number, place in enumerate(visit.desk.settings.batch_dirs):
            run = _Run(number, place)
            ui.timer(_LOOK_SECONDS, run.look)


class _Run:
    def __init__(self, number: int, place: str) -> None:
        self._number, self._place = number, place
        with ui.element("section").classes("panel"):
            heading(place.rstrip("/").rsplit("/", 1)[-1])
            self._state = ui.label("Reading the run directory").props("role=status")
            self._bar = ui.linear_progress(value=0, show_value=False, size="10px")
            self._bar.props('rounded aria-label="Rows done"')
            self._facts = ui.element("dl").classes("facts")
            ui.link("Report", f"/batch/{number}/report.html", new_tab=True)

    async def look(self) -> None:
        """Read the directory again."""
        try:
            status = await asyncio.to_thread(read_status, self._place)
        except GroundserveError as error:
            self._state.text = sentence(str(error))
            return
        self._state.text = f"{_STATES.get(status.state, status.state)}, attempt {status.attempt}"
        self._bar.value = status.num_done / status.num_rows if status.num_rows else 0
        self._facts.clear()
        with self._facts:
            for name, text in _facts_of(status):
                with ui.element("div"):
                    with ui.element("dt"):
                        ui.label(name)
                    with ui.element("dd"):
                        ui.label(text)


def _facts_of(status: Status) -> list[tuple[str, str]]:
    found: list[tuple[str, Any]] = [
        ("Rows", status.num_rows),
        ("Done", status.num_done),
        ("Failed", status.num_failed),
        ("Left", status.num_left),
        ("Rows a second", status.rows_per_second and f"{status.rows_per_second:.2f}"),
        ("Hours of video", f"{status.video_hours:.2f}"),
        ("Time left", status.eta_seconds and clock(status.eta_seconds)),
        (
            "Last sign",
            status.last_heartbeat and f"{clock(time.time() - status.last_heartbeat)} ago",
        ),
        *((f"Failed: {kind}", number) for kind, number in status.failures.items()),
    ]
    return [(name, str(value)) for name, value in found if value is not None]
