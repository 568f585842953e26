"""A result's page: how far it is, and then the answer beside the video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import Request
from nicegui import ui

from groundserve.answers import AnswerResult
from groundserve.clips import frame_jpegs
from groundserve.frames import data_url
from groundserve.gateway.errors import RefusedError
from groundserve.gateway.page.ask import SELECTORS, begin
from groundserve.gateway.page.frame import (
    Visit,
    button,
    framed,
    heading,
    sentence,
    telling,
    visit_of,
)
from groundserve.gateway.page.saves import (
    FORMS,
    Result,
    command_text,
    json_text,
    python_text,
)
from groundserve.gateway.page.timeline import moment_chart, score_chart
from groundserve.gateway.store import ACTIVE, Job, Video
from groundserve.options import ScoreOptions, Selector
from groundserve.results import QueryResult, ScoreResult, build_score_result
from groundserve.selection import select_frames
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.visuals import format_seconds

_LOOK_SECONDS = 0.3
_THUMBNAIL_PIXELS = 240
_MAX_SHOWN = 64
"""Frames of a question that are shown."""
_EMPTY = "data:,"
_STAGES = {
    "queued": "Waiting for its turn",
    "fetching": "Fetching the video",
    "waiting": "Waiting for a server",
    "running": "Looking at the video",
}


@dataclass(kw_only=True)
class Choice:
    """How frames and spans are chosen from scores."""

    top_k: int
    selector: Selector
    span_threshold: float
    span_gap_seconds: float

    @classmethod
    def of(cls, asked: dict[str, Any]) -> Choice:
        """Return what a request asked for."""
        defaults = ScoreOptions()
        return cls(
            top_k=asked.get("top_k", defaults.top_k),
            selector=asked.get("selector", defaults.selector),
            span_threshold=asked.get("span_threshold", DEFAULT_SPAN_THRESHOLD),
            span_gap_seconds=asked.get("span_gap_seconds", DEFAULT_SPAN_GAP_SECONDS),
        )

    def applied(self, result: ScoreResult) -> ScoreResult:
        """Choose anew, by the rules of the server."""
        logits = np.stack([query.frame_logits for query in result.queries])
        return build_score_result(
            [query.query for query in result.queries],
            video=result.video,
            info=result.info,
            frame_indices=result.frame_indices,
            pts_seconds=result.pts_seconds,
            frame_logits=logits,
            frame_scores=np.stack([query.frame_scores for query in result.queries]),
            selected_frames=np.stack(
                [
                    select_frames(
                        one, result.frame_indices, num_selected=self.top_k, selector=self.selector
                    )
                    for one in logits
                ]
            ),
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            request_id=result.request_id,
        )


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
    title = "; ".join(asked["queries"]) or asked.get("task", job.kind)
    video = _video_of(visit, job)
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


def _video_of(visit: Visit, job: Job) -> Video | None:
    found = visit.desk.spool.store.videos(id=job.video_id, owner=job.owner)
    return found[0] if found else None


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
        with ui.row():
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
        if job.status not in ACTIVE:
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


class _View:
    """What results of all kinds have: the player, the chart, and ways to save."""

    def __init__(self, visit: Visit, job: Job, result: Any, url: str) -> None:
        self.visit, self.job, self.result, self._url = visit, job, result, url
        self.asked = json.loads(job.request)
        self.video = _video_of(visit, job)
        info = result.info
        with ui.row().classes("items-center"):
            heading(result.video, 1)
            if self.video is not None:
                ui.link("Ask more about it", f"/?video={self.video.id}")
        ui.label(
            f"{format_seconds(info.duration_seconds)} long, {len(result.frame_indices)} frames "
            f"looked at, by {info.engine.get('family', 'a model')}"
        ).classes("muted")
        if note := info.engine.get("note"):
            ui.label(sentence(str(note))).classes("note")
        with ui.element("div").classes("beside"):
            with ui.element("div").classes("stack sticky"):
                self._show_player()
                self.show_controls()
            with ui.element("div").classes("stack"):
                with ui.element("section").classes("panel"):
                    heading("Timeline")
                    self.chart = self._draw()
                    ui.label(
                        "Click or drag to move in the video. Arrow keys go from frame to frame, "
                        "+ and - zoom, the space bar plays."
                    ).classes("muted")
                self.show_answers()
        self._show_saves()
        self._connect()

    def show_controls(self) -> None:
        """Show what can be changed."""

    def show_answers(self) -> None:
        """Show the answers in words and pictures."""

    def shown(self) -> Result:
        """Return the result as it is to be saved."""
        found: Result = self.result
        return found

    def options(self) -> dict[str, Any]:
        """Return what was asked beside the questions."""
        rest = ("video_id", "queries", "model", "background", "span_gap_seconds")
        return {name: value for name, value in self.asked.items() if name not in rest}

    def chart_options(self) -> tuple[dict[str, Any], int]:
        """Return the chart's options, and its height."""
        raise NotImplementedError

    def seek_button(self, start: float, text: str) -> None:
        """Show a button that moves the player; the browser does it by itself."""
        button(text).props("flat dense").classes("seek").on(
            "click", js_handler=f"() => groundserve.seek({self._within(start)})"
        )

    def moment_row(self, start: float, end: float, score: float | None, text: str = "") -> None:
        """Show a stretch of time, which can be played and saved."""
        with ui.element("li"):
            self.seek_button(start, f"{format_seconds(start)} - {format_seconds(end)}")
            if score is not None:
                ui.label(f"{score:.2f}").classes("score")
            ui.label(text).classes("grow")
            if self.video is not None:
                place = f"/v1/videos/{self.video.id}/clip.mp4?start={start}&end={end}"
                link = ui.link(target=place).props('download="clip.mp4"').classes("icon")
                link.props(f'aria-label="Save the clip from {format_seconds(start)}"')
                with link:
                    ui.icon("download")

    def first_seconds(self) -> float:
        """Return where the player begins."""
        return 0.0

    def _within(self, seconds: float) -> float:
        # The middle of a frame's time: rounding then shows no neighbour.
        return round(seconds + self._half_frame, 6)

    @property
    def _half_frame(self) -> float:
        return 0.5 / self.result.info.fps if self.result.info.fps else 0.0

    def _draw(self) -> ui.echart:
        options, height = self.chart_options()
        chart = ui.echart(options).classes("timeline").style(f"height:{height}px")
        chart.props('aria-label="Position in the video"')
        return chart

    def _show_player(self) -> None:
        self._player = self._still = None
        if self.video is None:
            ui.label("The video is no longer stored; its scores are.").classes("panel note")
            return
        self._player = ui.video(f"/files/{self.video.id}/video").classes("player")
        self._player.props('aria-label="The video" preload=auto')
        with ui.element("figure").classes("still") as self._still:
            ui.element("img").props('alt="The frame at this time"')
            with ui.element("figcaption").classes("muted"):
                ui.label("This browser cannot play the file; its frames are shown instead.")

    def _connect(self) -> None:
        given = {
            "chart_id": self.chart.id,
            "video_id": self._player.id if self._player else None,
            "still_id": self._still.id if self._still else None,
            "times": self.result.pts_seconds.tolist(),
            "frames": self.result.frame_indices.tolist(),
            "half_frame": self._half_frame,
            "duration": self.result.info.duration_seconds,
            "begin": self._within(self.first_seconds()),
            "video_path": f"/v1/videos/{self.video.id}" if self.video else "",
        }
        ui.run_javascript(f"groundserve.connect({json.dumps(given)})")

    def _show_saves(self) -> None:
        stem = self.result.video.rsplit("/", 1)[-1].rsplit(".", 1)[0] or "result"

        def save(form: Any) -> None:
            ui.download.content(form.text(self.shown()), f"{stem}{form.suffix}")

        with ui.element("section").classes("panel"):
            heading("Save and repeat")
            with ui.row().classes("gap-2"):
                button("Copy JSON", self._copy, icon="content_copy").props("dense")
                for form in FORMS:
                    button(form.name, partial(save, form), icon="download").props("dense")
                self.show_more_saves()
            for name, make in (("Command", self._command), ("Python", self._python)):
                with ui.expansion(name).classes("w-full") as opened:
                    code = ui.code("", language="text")
                    code.classes("w-full")
                    code.copy_button.props('aria-label="Copy"')
                opened.on_value_change(lambda event, code=code, make=make: code.set_content(make()))

    def _copy(self) -> None:
        ui.clipboard.write(json_text(self.shown()))
        ui.notify("Copied.")

    def show_more_saves(self) -> None:
        """Show what only results of this kind can be saved as."""

    def _command(self) -> str:
        return command_text(self.shown(), self.options())

    def _python(self) -> str:
        return python_text(self.shown(), self.options(), self._url)


class ScoreView(_View):
    """Scores, from which frames and spans are chosen anew at once."""

    def __init__(self, visit: Visit, job: Job, result: ScoreResult, url: str) -> None:
        self._choice = Choice.of(json.loads(job.request))
        self._chosen = self._choice.applied(result)
        self._pictures: dict[int, str] = {}
        """By ordinal, as URLs."""
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
        with ui.element("section").classes("panel"):
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
            with ui.element("section").classes("panel"):
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
                with self.visit.owner.at_work(), desk.spool.pinned(self.video):
                    jpegs = await desk.pictures.make(path, make)
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


class AnswerView(_View):
    """Answers in text, with moments."""

    def chart_options(self) -> tuple[dict[str, Any], int]:
        """Return the chart's options, and its height."""
        return moment_chart(self.result)

    def first_seconds(self) -> float:
        """Return when the first moment starts."""
        starts = [one.start_seconds for answer in self.result.answers for one in answer.moments]
        return starts[0] if starts else 0.0

    def show_answers(self) -> None:
        """Show the text and the moments of each question."""
        for answer in self.result.answers:
            with ui.element("section").classes("panel"):
                heading(answer.query or answer.task)
                ui.label(answer.text).classes("answer")
                with ui.element("ul").classes("moments"):
                    for one in answer.moments:
                        self.moment_row(one.start_seconds, one.end_seconds, one.score, one.text)
