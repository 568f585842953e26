"""What people do with the page, from a video to what they save of it."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import httpx2
import imageio_ffmpeg
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from groundserve import ScoreResult
from groundserve.gateway.keys import add_key
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


def chart(page) -> dict:
    """What the chart shows."""
    script = "getElement(+document.querySelector('.timeline').id.slice(1)).chart.getOption()"
    return page.evaluate(script)


def series(page) -> list[dict]:
    return chart(page)["series"]


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
    timeline.press("+")
    zoom = chart(page)["dataZoom"][0]
    assert zoom["start"] == 0  # half of all, around the player, where there is as much
    assert zoom["end"] == pytest.approx(100 * 10.25 / 48 + 25)
    timeline.press("End")
    assert now(page) == pytest.approx(result.pts_seconds[-1] + HALF_FRAME, abs=1e-3)
    page.locator(".frame").first.click()
    first = result.queries[0].selected_seconds[0]
    assert now(page) == pytest.approx(first + HALF_FRAME, abs=1e-3)


def test_choosing_anew_asks_no_server(open_page, url, video):
    page = open_page(url)
    result = result_of(url, ask(page, video, *QUERIES))
    num_jobs = len(httpx2.get(f"{url}/v1/jobs").json()["jobs"])
    page.get_by_role("slider", name="Frames of each question").fill("3")
    page.get_by_role("slider", name="Lowest score of a span").fill("0.2")
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
    spans = sorted((*span[:2], query.query) for query in result.queries for span in query.spans)
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
        asked = httpx2.get(f"{url}/v1/videos").json()["videos"][-1]["id"]
        picture = httpx2.get(f"{url}/v1/videos/{asked}/frames/{ordinals[0]}.jpg").content
        assert archive.read(archive.namelist()[0]) == picture
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    with av.open(str(download.value.path())) as clip:
        # Two frames a second: from the one shown at the start to that at the end.
        start, end = result.queries[0].spans[0][:2]
        assert sum(1 for _ in clip.decode(video=0)) == int(2 * end) - int(2 * start) + 1
    for name in ("Command", "Python"):
        page.get_by_role("button", name=name).click()
    command, program = page.locator(".q-expansion-item code").all_inner_texts()
    words = shlex.split(command)
    assert words.pop(0) == "groundserve"
    finished = run_cli(*words, "--server", servers[0].addresses["grpc"], "--json", cwd=video.parent)
    assert lasting(finished.stdout) == lasting(json.dumps(result.to_json()))
    program += "\nimport json; print(json.dumps(result.to_json()))"
    words = [sys.executable, "-I", "-c", program]
    printed = subprocess.run(words, cwd=video.parent, capture_output=True, text=True, check=True)
    assert lasting(printed.stdout) == lasting(json.dumps(result.to_json()))


def lasting(text: str) -> dict:
    """What a result says of the video, without what is of one request alone."""
    names = ("request_id", "timing_ms", "cache_hit")
    return {name: value for name, value in json.loads(text).items() if name not in names}


def _seconds(clock: str, point: str) -> float:
    hours, minutes, seconds = clock.replace(point, ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_a_link_opens_again_and_the_browser_knows_its_results(open_page, url, video):
    page = open_page(url)
    job = ask(page, video, *QUERIES)
    page.reload()
    page.locator(".timeline canvas").wait_for()
    before = series(page)
    page.get_by_role("link", name="Ask", exact=True).click()
    link = page.get_by_role("link", name=" · ".join(QUERIES))
    assert link.get_attribute("href") == f"/results/{job}"
    other = open_page(f"{url}/results/{job}")
    other.locator(".timeline canvas").wait_for()
    assert series(other) == before
    httpx2.delete(f"{url}/v1/jobs/{job}")
    other.reload()
    other.get_by_text("There is no such result").wait_for()


@pytest.mark.parametrize(
    ("button", "shown"),
    [("Try the drawn video", ".moments li .score"), ("Ask about the drawn video", ".answer")],
)
def test_the_drawn_video_is_one_click_away(open_page, url, button, shown):
    page = open_page(url)
    page.get_by_role("button", name=button).click()
    page.locator(shown).first.wait_for()
    assert page.get_by_role("heading", name="digits.mp4").is_visible()


def test_a_video_behind_a_url(open_page, url, video):
    with Origin({"/film.mp4": whole(video.read_bytes())}) as origin:
        page = open_page(url)
        page.get_by_label("or the URL of a video").fill(origin.url("/film.mp4"))
        page.get_by_role("button", name="Fetch").click()
        page.locator(".chosen", has_text="film.mp4").wait_for()
        page.get_by_label("One question a line").fill(QUERIES[0])
        page.get_by_label("One question a line").press("Control+Enter")
        page.locator(".timeline canvas").wait_for()
    assert page.get_by_role("heading", name="film.mp4").is_visible()


def test_answers_in_text(open_page, url, clips):
    case = next(case for case in CASES if case.model == "stage3")
    page = open_page(url)
    upload(page, case.path(clips))
    page.get_by_label("Model").click()
    page.get_by_role("option", name="vtimellm").click()
    page.get_by_label("One question a line").fill(case.query)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator(".timeline canvas").wait_for()
    told = httpx2.get(f"{url}/v1/jobs/{page.url.rsplit('/', 1)[-1]}").json()["result"]
    assert page.locator(".answer").all_inner_texts() == [one["text"] for one in told["answers"]]
    moments = [moment for one in told["answers"] for moment in one["moments"]]
    assert page.locator(".moments li").count() == len(moments)
    with page.expect_download() as saved:
        page.get_by_role("button", name="JSON", exact=True).click()
    assert json.loads(Path(saved.value.path()).read_text("utf-8")) == told


def test_a_job_tells_how_far_it_is_until_it_is_cancelled(open_page, url, clips, tmp_path):
    long = tmp_path / "long.mp4"  # 15 minutes, most of which are decoded
    repeats = ["-stream_loop", "90", "-i", clips["bikes"], "-an", "-c", "copy", long]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *repeats], check=True)
    page = open_page(url)
    upload(page, long)
    page.get_by_label("One question a line").fill(QUERIES[0])
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text(re.compile(r"[1-9]\d* of \d+ frames decoded")).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"{url}/")
    jobs = httpx2.get(f"{url}/v1/jobs").json()["jobs"]
    assert [job for job in jobs if job["status"] in ("queued", "running")] == []


def test_errors_are_told(open_page, url, video, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    page = open_page(url, says="422")
    told = page.locator(".q-notification")

    def tells(message: str) -> None:
        page.get_by_text(message).wait_for()
        for close in told.get_by_role("button", name="Close").all():
            close.click()
        told.first.wait_for(state="detached")

    page.get_by_role("button", name="Ask", exact=True).click()
    tells("Choose a video first.")
    page.get_by_label("Video file").set_input_files(empty)
    tells("The video is empty (0 bytes).")
    page.get_by_label("or the URL of a video").fill("https://example.org/a.mp4")
    page.get_by_role("button", name="Fetch").click()
    tells("of a host that is allowed (--allow-host).")
    upload(page, video)
    page.get_by_role("button", name="Ask", exact=True).click()
    tells("Write a question first.")
    page.get_by_label("One question a line").fill("\n".join(["When?"] * 33))
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("[role=alert]", has_text="got 33.").wait_for()
    page.get_by_role("button", name="Ask something else").click()
    page.locator(".chosen", has_text=video.name).wait_for()
    upload(page, text)
    page.get_by_label("One question a line").fill("When?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("MediaError").wait_for()
    page.get_by_role("button", name="Ask something else").click()
    page.locator(".chosen", has_text="text.mp4").wait_for()


def test_the_api_is_as_without_the_page(url):
    for method, path, status in (("GET", "/v1/nothing", 404), ("POST", "/v1/models", 405)):
        answer = httpx2.request(method, f"{url}{path}")
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_keys_keep_people_apart(open_page, servers, root, video, tmp_path):
    keys = tmp_path / "keys.jsonl"
    tokens = {name: add_key(keys, name) for name in ("anna", "ben")}
    with gateway(servers, root / "keyed", "--keys", keys) as url:
        pages = {}
        for name, token in tokens.items():
            page = pages[name] = open_page(f"{url}/videos")
            page.get_by_label("API key").fill("gs-wrong")
            page.get_by_role("button", name="Sign in").click()
            page.get_by_text("This key is not valid.").wait_for()
            page.get_by_label("API key").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("heading", name="Videos").wait_for()
            assert page.url == f"{url}/videos"
            page.get_by_role("link", name="Ask").click()
        job = ask(pages["anna"], video, QUERIES[0])
        pages["anna"].locator(".frame img").first.wait_for()
        pages["ben"].goto(f"{url}/results/{job}")
        pages["ben"].get_by_text("There is no such result").wait_for()
        pages["ben"].goto(f"{url}/videos")
        pages["ben"].get_by_text("Nothing is stored yet.").wait_for()
        pages["anna"].goto(f"{url}/videos")
        pages["anna"].get_by_role("heading", name=video.name).wait_for()
        keys.write_text(keys.read_text("utf-8").splitlines()[1] + "\n")  # anna's is taken back
        pages["anna"].reload()
        pages["anna"].get_by_role("heading", name="Sign in").wait_for()
        pages["ben"].get_by_role("button", name="Sign out ben").click()
        pages["ben"].get_by_role("heading", name="Sign in").wait_for()
        for page in pages.values():  # before the gateway ends, which they would notice
            page.context.close()


def test_the_library(open_page, url, video, tmp_path):
    for name in ("first talk.mp4", "second talk.mp4"):
        sent = {"video": (name, video.read_bytes())}
        httpx2.post(f"{url}/v1/videos", files=sent).raise_for_status()
    page = open_page(f"{url}/videos")
    cards = page.locator(".card")
    cards.first.wait_for()
    total = cards.count()
    page.get_by_label("Search by name").fill("SECOND")
    wait_until(lambda: cards.count() == 1)
    page.wait_for_function("document.querySelector('.card img').naturalWidth > 0")
    cards.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    wait_until(lambda: cards.count() == 0)
    page.get_by_label("Search by name").fill("")
    wait_until(lambda: cards.count() == total - 1)
    names = [one["name"] for one in httpx2.get(f"{url}/v1/videos").json()["videos"]]
    assert "second talk.mp4" not in names
    cards.filter(has_text="first talk.mp4").get_by_role("button", name="Ask").click()
    page.locator(".chosen", has_text="first talk.mp4").wait_for()


def test_the_batch_page(open_page, url, run_dir):
    page = open_page(f"{url}/batch")
    page.get_by_text("finished, attempt 1").wait_for()
    facts = page.locator(".facts")
    terms, values = (facts.locator(name).all_inner_texts() for name in ("dt", "dd"))
    told = dict(zip(terms, values, strict=True))
    assert {name: told[name] for name in ("Rows", "Done", "Failed")} == {
        "Rows": "6",
        "Done": "4",
        "Failed": "2",
    }
    assert told["Failed: Unreadable"] == "2"
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Report").click()
    opened.value.get_by_text("my run").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_used_by_everybody(open_page, url, video, scheme):
    page = open_page(url, color_scheme=scheme, viewport={"width": 360, "height": 780})
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert is_dark == (scheme == "dark")
    problems = []

    def look() -> None:
        found = Axe().run(page).response["violations"]
        problems.extend(one for one in found if one["impact"] in ("serious", "critical"))
        red, green, blue = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )[:3]
        assert (max(red, green, blue) < 64) == is_dark
        assert page.evaluate("document.documentElement.scrollWidth") == 360

    page.get_by_role("button", name="Ask", exact=True).wait_for()
    look()
    ask(page, video, *QUERIES)
    page.get_by_role("button", name="Command").click()
    page.locator(".q-expansion-item code").first.wait_for()
    look()
    page.goto(f"{url}/videos")
    page.locator(".card").first.wait_for()
    look()
    for width in (1440, 2560):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [(one["id"], one["nodes"][0]["html"]) for one in problems] == []


def test_by_keys_alone(open_page, url, video):
    page = open_page(url)
    upload(page, video)

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('aria-label')") == name:
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("One question a line")
    page.keyboard.type(QUERIES[0])
    page.keyboard.press("Control+Enter")
    page.locator(".timeline canvas").wait_for()
    page.wait_for_function("document.querySelector('video').readyState > 1")
    tab_to("Position in the video")
    page.keyboard.press("Home")
    assert now(page) == pytest.approx(HALF_FRAME, abs=1e-3)


def test_what_the_browser_cannot_play_is_shown_frame_by_frame(open_page, url, tmp_path):
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 250, 10):
            picture = np.full((48, 64, 3), level, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())
    page = open_page(url)
    ask(page, path, "When is it bright?")
    page.get_by_text("This browser cannot play the file").wait_for()
    page.get_by_role("slider", name="Position in the video").press("End")
    page.wait_for_function("document.querySelector('.still img').src.includes('/frames/24.jpg')")
    page.wait_for_function("document.querySelector('.still img').naturalWidth === 64")
