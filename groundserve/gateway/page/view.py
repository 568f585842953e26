"""What results of all kinds have on their page: the player, the chart, and ways to save."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from nicegui import ui

from groundserve.gateway.page.frame import Visit, button, heading, sentence
from groundserve.gateway.page.saves import (
    FORMS,
    Result,
    command_text,
    json_text,
    python_text,
)
from groundserve.gateway.page.timeline import moment_chart
from groundserve.gateway.store import Job, Video
from groundserve.visuals import format_seconds


def video_of(visit: Visit, job: Job) -> Video | None:
    """Return the video of a job, where it is still stored."""
    found = visit.desk.spool.store.videos(id=job.video_id, owner=job.owner)
    return found[0] if found else None


class View:
    """A result's part of the page."""

    def __init__(self, visit: Visit, job: Job, result: Any, url: str) -> None:
        self.visit, self.job, self.result, self._url = visit, job, result, url
        self.asked = json.loads(job.request)
        self.video = video_of(visit, job)
        info = result.info
        with ui.element("div").classes("line"):
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
            with ui.element("div").classes("line"):
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


class AnswerView(View):
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
            with ui.element("section").classes("panel answers"):
                heading(answer.query or answer.task)
                ui.label(answer.text).classes("answer")
                with ui.element("ul").classes("moments"):
                    for one in answer.moments:
                        self.moment_row(one.start_seconds, one.end_seconds, one.score, one.text)
