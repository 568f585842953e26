"""What people do with the page, from a video to what they save of it."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from groundserve import ScoreResult
from groundserve.clips import frames_shown
from groundserve.gateway.keys import add_key
from groundserve.media import VideoIndex
from groundserve.selection import select_frames
from groundserve.spans import find_spans
from tests.cli.command import run_cli
from tests.page.conftest import ask, gateway, upload
from tests.support.answer_cases import CASES
from tests.support.origin import Origin, whole
from tests.unit.gateway.conftest import wait_until

QUERIES = ("When is a seven shown?", "Which frames show a three?")
HALF_FRAME = 0.25  # of a drawn video, which has two frames a second


def result_of(url: str, job: str) -> ScoreResult:
    told = httpx2.get(f"{url}/v1/jobs/{job}").json()
    assert told["status"] == "done", told
    return ScoreResult.from_json(json.dumps(told["result"]))


def now(page) -> float:
    """Where the player is, once it has got there."""
    page.wait_for_function("!document.querySelector('video').seeking")
    return page.evaluate("document.querySelector('video').currentTime")


def slide(page, name: str, value: float) -> None:
    """Move a slider by keys to a value."""
    slider = page.get_by_role("slider", name=name)
    slider.focus()
    for _ in range(200):
        at = float(slider.get_attribute("aria-valuenow"))
        if abs(at - value) < 1e-6:
            return
        slider.press("ArrowRight" if at < value else "ArrowLeft")
    raise AssertionError(f"{name} does not reach {value}")


def series(page) -> list[dict]:
    """What the chart shows."""
    script = "getElement(+document.querySelector('.timeline').id.slice(1)).chart.getOption().series"
    return page.evaluate(script)


def at(page, seconds: float) -> tuple[float, float]:
    """Where in the window a time is on the first row of the chart."""
    script = """seconds => {
        const box = document.querySelector('.timeline');
        const chart = getElement(+box.id.slice(1)).chart, place = box.getBoundingClientRect();
        const [x, y] = chart.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, [seconds, 0.5]);
        return [place.left + x, place.top + y];
    }"""
    page.locator(".timeline").scroll_into_view_if_needed()
    return tuple(page.evaluate(script, seconds))


def test_two_questions_about_an_upload(open_page, url, video):
    page = open_page(url)
    result = result_of(url, ask(page, video, *QUERIES))
    assert [query.query for query in result.queries] == list(QUERIES)
    shown = series(page)
    for row, query in enumerate(result.queries):
        points = np.array(shown[2 * row]["data"])
        assert np.allclose(points[:, 0], result.pts_seconds, atol=5e-5)  # four digits
        assert np.allclose(points[:, 1], query.frame_scores, atol=5e-5)
        bands = [[side["xAxis"] for side in band] for band in shown[2 * row]["markArea"]["data"]]
        assert bands == [list(span[:2]) for span in query.spans]
        chosen = np.array(shown[2 * row + 1]["data"])[:, 0]
        assert np.allclose(chosen, query.selected_seconds, atol=5e-5)
    frames = page.locator(".frame")
    assert frames.count() == sum(len(query.selected_frames) for query in result.queries)
    page.wait_for_function(
        "[...document.querySelectorAll('.frame img')].every(one => one.naturalWidth > 1)"
    )


def test_seeking_by_pointer_keys_and_thumbnails(open_page, url, video):
    page = open_page(url, viewport={"width": 1440, "height": 1000})
    result = result_of(url, ask(page, video, *QUERIES))
    best = result.pts_seconds[np.argmax(result.queries[0].frame_logits)]
    page.wait_for_function("document.querySelector('video').readyState > 1")
    assert abs(now(page) - best - HALF_FRAME) < HALF_FRAME
    pixel = 48 / 500  # seconds: the row is wider than 500 pixels
    page.mouse.click(*at(page, 20.0))
    assert abs(now(page) - 20) < pixel
    page.mouse.move(*at(page, 5.0))
    page.mouse.down()
    for seconds in (8.0, 17.0, 31.0):
        page.mouse.move(*at(page, seconds))
    page.mouse.up()
    wait_until(lambda: abs(now(page) - 31) < pixel)
    page.mouse.move(*at(page, 40.0))
    assert abs(now(page) - 31) < pixel
    timeline = page.get_by_role("slider", name="Position in the video")
    for key, frame in (("Home", 0), ("ArrowRight", 1), ("PageDown", 11), ("ArrowLeft", 10)):
        timeline.press(key)
        assert now(page) == pytest.approx(result.pts_seconds[frame] + HALF_FRAME, abs=1e-3)
    assert timeline.get_attribute("aria-valuetext") == "0:10.3"
    timeline.press("End")
    assert now(page) == pytest.approx(result.pts_seconds[-1] + HALF_FRAME, abs=1e-3)
    page.locator(".frame").first.click()
    first = result.queries[0].selected_seconds[0]
    assert now(page) == pytest.approx(first + HALF_FRAME, abs=1e-3)


def test_choosing_anew_asks_no_server(open_page, url, video):
    page = open_page(url)
    result = result_of(url, ask(page, video, *QUERIES))
    num_jobs = len(httpx2.get(f"{url}/v1/jobs").json()["jobs"])
    slide(page, "Frames of each question", 3)
    slide(page, "Lowest score of a span", 0.2)
    page.get_by_label("Which frames").click()
    page.get_by_role("option", name="the best of equal parts").click()
    wait_until(lambda: page.locator(".frame").count() == 6)
    wait_until(lambda: series(page)[0]["markLine"]["data"] == [{"yAxis": 0.2}])
    with page.expect_download() as saved:
        page.get_by_role("button", name="JSON", exact=True).click()
    chosen = ScoreResult.from_json(Path(saved.value.path()).read_text("utf-8"))
    for before, query in zip(result.queries, chosen.queries, strict=True):
        assert np.array_equal(query.frame_logits, before.frame_logits)
        assert np.array_equal(
            query.selected_frames,
            select_frames(
                before.frame_logits, result.frame_indices, num_selected=3, selector="spread"
            ),
        )
        assert query.spans == find_spans(
            before.frame_scores,
            result.pts_seconds,
            duration_seconds=result.duration_seconds,
            span_threshold=0.2,
        )
    assert len(httpx2.get(f"{url}/v1/jobs").json()["jobs"]) == num_jobs


def test_what_is_saved_reads_back_equal(open_page, url, video, servers):
    page = open_page(url)
    result = result_of(url, ask(page, video, *QUERIES))

    def saved(name: str) -> bytes:
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        return Path(download.value.path()).read_bytes()

    assert json.loads(saved("JSON")) == result.to_json()
    lines = [json.loads(line) for line in saved("JSON lines, one a question").splitlines()]
    assert lines == [{"video": video.name} | row for row in result.to_json()["queries"]]
    rows = list(csv.DictReader(io.StringIO(saved("CSV table").decode())))
    for query in result.queries:
        of_query = [row for row in rows if row["query"] == query.query]
        assert [float(row["score"]) for row in of_query] == query.frame_scores.tolist()
        assert [float(row["seconds"]) for row in of_query] == result.pts_seconds.tolist()
        selected = [int(row["frame"]) for row in of_query if row["selected"] == "1"]
        assert selected == query.selected_frames.tolist()
    spans = sorted(
        (*span[:2], query.query) for query in result.queries for span in query.spans
    )
    assert spans
    for name, point in (("Subtitles (SRT)", ","), ("Subtitles (WebVTT)", ".")):
        cues = re.findall(r"(\S+) --> (\S+)\n(.+)\n", saved(name).decode())
        found = [(_seconds(start, point), _seconds(end, point), text) for start, end, text in cues]
        assert found == spans
    cuts = saved("ffmpeg cut list").decode().splitlines()
    assert cuts[:2] == ["ffconcat version 1.0", f"file '{video.name}'"]
    points = [float(line.split()[1]) for line in cuts if line.startswith(("inpoint", "outpoint"))]
    assert points == [second for span in spans for second in span[:2]]
    with zipfile.ZipFile(io.BytesIO(saved("Frames (ZIP)"))) as archive:
        ordinals = np.unique(np.concatenate([q.selected_frames for q in result.queries]))
        assert archive.namelist() == [f"frame_{ordinal:07d}.jpg" for ordinal in ordinals]
        asked = json.loads(httpx2.get(f"{url}/v1/videos").text)["videos"][-1]["id"]
        picture = httpx2.get(f"{url}/v1/videos/{asked}/frames/{ordinals[0]}.jpg").content
        assert archive.read(archive.namelist()[0]) == picture
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    with av.open(str(download.value.path())) as clip:
        start, end = result.queries[0].spans[0][:2]
        index = VideoIndex(**{}) if False else None
        del index
        num_frames = sum(1 for _ in clip.decode(video=0))
        first, last = int(start * 2), int(end * 2)
        assert num_frames == last - first + 1
    for name in ("Command", "Python"):
        page.get_by_role("button", name=name).click()
    command = page.locator(".q-expansion-item", has_text="Command").locator("code").inner_text()
    words = command.split()
    assert words[:3] == ["groundserve", "score", video.name]


def _seconds(clock: str, point: str) -> float:
    hours, minutes, seconds = clock.replace(point, ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
