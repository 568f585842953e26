"""Scores on a result's page, from which frames and spans are chosen anew at once."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
from nicegui import ui

from groundserve.clips import frame_jpegs
from groundserve.frames import data_url
from groundserve.gateway.page.choice import Choice
from groundserve.gateway.page.frame import Visit, button, heading, telling
from groundserve.gateway.page.timeline import score_chart
from groundserve.gateway.page.view import View
from groundserve.gateway.store import Job
from groundserve.options import Selector
from groundserve.results import QueryResult, ScoreResult
from groundserve.visuals import format_seconds

_THUMBNAIL_PIXELS = 240
_MAX_SHOWN = 64
"""Frames of a question that are shown."""
_EMPTY = "data:,"
_MAX_KNOWN = 64
_known: dict[str, dict[int, str]] = {}
"""By video, of the last ones: its small frames by ordinal, as URLs, for all who look at it."""
SELECTORS: dict[Selector, str] = {
    "topk": "the best",
    "spread": "the best of equal parts",
    "min_gap": "the best, apart from each other",
    "inverse_transform": "many where scores are high",
}


class ScoreView(View):
    """Scores, from which frames and spans are chosen anew at once."""

    def __init__(self, visit: Visit, job: Job, result: ScoreResult, url: str) -> None:
        self._choice = Choice.of(json.loads(job.request))
        self._chosen = self._choice.applied(result)
        self._pictures = _known.setdefault(job.video_id or "", {})
        while len(_known) > _MAX_KNOWN:
            del _known[next(iter(_known))]
        self._is_loading = False
        super().__init__(visit, job, result, url)

    def chart_options(self) -> tuple[dict[str, Any], int]:
        """Return the chart's options, and its height."""
        return score_chart(self._chosen, self._choice.span_threshold)

    def first_seconds(self) -> float:
        """Return when the best frame of the first question is shown."""
        best = np.argmax(self.result.queries[0].frame_logits)
        return float(self.result.pts_seconds[best])

    def shown(self) -> ScoreResult:
        """Return the result as it is chosen now."""
        return self._chosen

    def options(self) -> dict[str, Any]:
        """Return what to ask for to get what is shown."""
        return super().options() | {
            "top_k": self._choice.top_k,
            "selector": self._choice.selector,
            "span_threshold": self._choice.span_threshold,
        }

    def show_controls(self) -> None:
        """Show what frames and spans depend on."""
        most = max(1, len(self.result.frame_indices))
        with ui.element("section").classes("panel choose"):
            heading("Choose anew")
            with ui.element("div").classes("controls"):
                self._slider("top_k", 1, min(most, _MAX_SHOWN), 1, "Frames of each question")
                self._slider("span_threshold", 0, 1, 0.01, "Lowest score of a span")
            select = ui.select(SELECTORS, label="Which frames", value=self._choice.selector)
            select.props("outlined dense options-dense").classes("w-full")
            select.on_value_change(lambda event: self._choose("selector", event.value))

    def _slider(self, name: str, least: float, most: float, step: float, label: str) -> None:
        value = min(getattr(self._choice, name), most)
        told = ui.label(f"{label}: {value:g}").props("aria-hidden=true")

        def choose(event: Any) -> None:
            told.text = f"{label}: {event.args:g}"
            self._choose(name, event.args)

        # The browser's own: that of Quasar has its name where the focus never is.
        slider = ui.element("input").props(f'type=range aria-label="{label}"')
        slider.props(f"min={least} max={most} step={step} value={value}").on(
            "input", choose, throttle=0.1, js_handler="event => emit(+event.target.value)"
        )

    def _choose(self, name: str, value: Any) -> None:
        setattr(self._choice, name, value)
        self._chosen = self._choice.applied(self.result)
        options, _ = self.chart_options()
        self.chart.run_chart_method("setOption", {"series": options["series"]})
        self._fill()

    def show_answers(self) -> None:
        """Show spans and frames of each question."""
        self._places: list[tuple[ui.element, ui.element]] = []
        for query in self._chosen.queries:
            with ui.element("section").classes("panel answers"):
                heading(query.query or "(empty question)")
                spans = ui.element("ul").classes("moments")
                frames = ui.element("div").classes("frames")
                self._places.append((spans, frames))
        self._fill()

    def show_more_saves(self) -> None:
        """Show the chosen frames as a ZIP."""
        if self.video is not None:
            button("Frames (ZIP)", self._save_frames, icon="download").props("dense")

    def _save_frames(self) -> None:
        assert self.video is not None, "or there is no button"
        frames = "&".join(f"frame={ordinal}" for ordinal in self._ordinals())
        ui.download.from_url(f"/files/{self.video.id}/frames.zip?{frames}", "frames.zip")

    def _ordinals(self) -> list[int]:
        selected = [query.selected_frames for query in self._chosen.queries]
        ordinals: list[int] = np.unique(np.concatenate(selected)).tolist()
        return ordinals

    def _fill(self) -> None:
        self._images: list[tuple[int, ui.element]] = []
        for (spans, frames), query in zip(self._places, self._chosen.queries, strict=True):
            spans.clear()
            with spans:
                for span in query.spans:
                    self.moment_row(*span)
                if not query.spans:
                    with ui.element("li"):
                        ui.label(
                            f"No span: the highest score is {query.frame_scores.max():.2f}."
                        ).classes("muted")
            frames.clear()
            with frames:
                for ordinal, seconds, score in _scored(self._chosen, query):
                    self._thumbnail(ordinal, seconds, score)
        if not self._is_loading:
            ui.timer(0, telling(self._load_pictures), once=True)

    def _thumbnail(self, ordinal: int, seconds: float, score: float) -> None:
        with ui.element("button").classes("frame") as tile:
            picture = ui.element("img").props('alt=""')
            picture.props["src"] = self._pictures.get(ordinal, _EMPTY)
            ui.label(f"{format_seconds(seconds)} · {score:.2f}")
        tile.props(
            f'type=button aria-label="Frame at {format_seconds(seconds)}, score {score:.2f}"'
        )
        tile.on("click", js_handler=f"() => groundserve.seek({self._within(seconds)})")
        self._images.append((ordinal, picture))

    async def _load_pictures(self) -> None:
        """Decode the frames that are not known yet, together."""
        if self.video is None:
            return
        desk, path = self.visit.desk, self.visit.desk.spool.path(self.video)
        self._is_loading = True
        try:
            while wanted := [one for one in self._ordinals() if one not in self._pictures]:
                make = partial(frame_jpegs, frame_indices=wanted, longest_side=_THUMBNAIL_PIXELS)
                owner = self.visit.owner
                with owner.at_work(), desk.spool.pinned(self.video):
                    jpegs = await desk.pictures.make(owner, path, make)
                self._pictures |= dict(zip(wanted, map(data_url, jpegs), strict=True))
        finally:
            self._is_loading = False
        for ordinal, picture in self._images:
            if picture.props["src"] == _EMPTY:
                picture.props["src"] = self._pictures[ordinal]
                picture.update()


def _scored(result: ScoreResult, query: QueryResult) -> list[tuple[int, float, float]]:
    positions = np.searchsorted(result.frame_indices, query.selected_frames)
    columns = (query.selected_frames, query.selected_seconds, query.frame_scores[positions])
    return list(zip(*(column.tolist() for column in columns), strict=True))
