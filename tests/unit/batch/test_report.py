from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from groundserve.batch.events import VideoTime
from groundserve.batch.report import render_report
from groundserve.batch.report_facts import Bar, ReportFacts, Worker
from groundserve.batch.status import Status

NASTY = "<script>alert(1)</script> \"'&amp; \x1b[31m \0 \udcff \ufffe"
WORKER = Worker(host="node-1", pid=4711, num_rows=100, video_seconds=7200, busy_seconds=1700)


def attempt(number: int, host: str = "node-1") -> SimpleNamespace:
    """As `status.Attempt` is read from a journal."""
    return SimpleNamespace(
        number=number,
        driver={"host": host},
        started=1795399211.0,
        seconds=900,
        is_finished=True,
        tally=SimpleNamespace(num_scored=50, num_failed=3),
    )


FACTS = ReportFacts(
    status=Status(
        place="/data/run",
        state="finished",
        num_rows=100,
        num_done=97,
        num_failed=3,
        failures={"Missing": 3},
        manifest="m.jsonl",
        fingerprint={"engine_id": "abc", "defaults": {"top_k": 32, "num_frames": None}},
        checkpoint_note="trained on <digits>",
    ),
    video_seconds=7200.0,
    running_seconds=1800.0,
    first_failures={
        "Missing": [("a", "a.mp4", "no such file"), (64 * "0", "b.mp4", "no such file")]
    },
    attempts=[attempt(1), attempt(2)],
    bars=[Bar(0, 900, 50, 0), Bar(900, 900, 47, 3)],
    stages={"decode": 300.0, "vision_encoder": 900.0, "select": 0.0},
    workers={("node-1", 4711): WORKER},
    slowest=[VideoTime(video="long.mp4", seconds=61, num_rows=2, video_seconds=3600)],
)


class Page(HTMLParser):
    """Reads a page that closes all of its elements, and refuses any other."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open  # elsewhere HTML has no such form
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def page(facts: ReportFacts) -> Page:
    return Page(render_report(facts, made="2026-11-23 02:20:00"))


def test_report_says_all_that_is_known():
    said = page(FACTS).text
    for text in (
        *("/data/run", "finished", "97.0%", "3.0%", "no such file", "node-1", "4711"),
        *("attempt 2", "vision_encoder", "75.0%", "long.mp4", "1:01", "1:00:00"),
        *("engine_id", "abc", "defaults.top_k", "rows a second", "0.0556", "2 attempts"),
        *("Note: trained on <digits>", "b.mp4"),
    ):
        assert text in said, text
    assert 64 * "0" not in said  # the id of a row that has none of its own
    assert "cost" not in said
    assert "select" not in said  # a stage that took no time


def test_cost_follows_from_price_time_and_hours():
    priced = replace(FACTS, price_per_hour=4.0)
    # Half an hour at 4 for two hours of video.
    assert priced.cost_per_1000_video_hours == 1000.0
    assert "at 4 an hour for all machines together" in page(priced).text
    assert replace(priced, video_seconds=0.0).cost_per_1000_video_hours is None


def test_what_others_wrote_cannot_act_in_the_page():
    facts = replace(
        FACTS,
        status=replace(
            FACTS.status,
            place=NASTY,
            state=NASTY,
            failures={NASTY: 1},
            fingerprint={NASTY: NASTY, "more": {NASTY: [NASTY]}},
        ),
        first_failures={NASTY: [(NASTY, NASTY, NASTY)]},
        attempts=[attempt(1, NASTY), attempt(2)],
        stages={NASTY: 1.0},
        workers={(NASTY, 1): replace(WORKER, host=NASTY)},
        slowest=[FACTS.slowest[0]._replace(video=NASTY)],
    )
    html = render_report(facts, made=NASTY)
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe]", html)
    parsed = Page(html)
    assert set(parsed.tags) == set(page(FACTS).tags)
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script> \"'&amp; \\x1b[31m \\x00 \\udcff \\ufffe" in parsed.text


def test_page_needs_no_other_file_and_no_network():
    html = render_report(FACTS, made="now")
    assert not re.search(r"https?:|//|\b(src|href|srcset|action)=|url\(|@import|<script", html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status(place="/data/run", state="running")},
        {"stages": {}, "workers": {}, "slowest": [], "first_failures": {}},
        {"bars": [Bar(0, 1, 0, 0)]},
    ],
)
def test_report_of_a_run_that_has_hardly_begun(changes):
    said = page(replace(FACTS, **changes)).text
    assert "nan" not in said
    assert "inf" not in said
