"""The times in VTG-LLM's answers, against what its reference's evaluation read."""

import json

import pytest

from groundserve.answers import Moment
from groundserve.families.vtgllm.answer import (
    find_span,
    parse_answer,
    read_events,
    read_highlights,
)
from tests.support.reference import VTGLLM

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
FUNCTIONS = RECORDED["functions"]
MOMENTS = FUNCTIONS["parse_moment_retrieval"]
CAPTIONS = FUNCTIONS["parse_dense_captioning"]
HIGHLIGHTS = FUNCTIONS["parse_highlights"]


def answer(vector):
    return vector["answer"] or "nothing"


@pytest.mark.parametrize("vector", MOMENTS, ids=answer)
def test_the_span_is_the_recorded_one(vector):
    span = find_span(vector["answer"])
    assert ([list(span)] if span else []) == vector["parsed"]
    moments = parse_answer(vector["answer"], "moment")
    assert [[one.start_seconds, one.end_seconds] for one in moments or ()] == vector["parsed"]


@pytest.mark.parametrize("vector", CAPTIONS, ids=answer)
def test_events_are_the_recorded_ones(vector):
    events = read_events(vector["answer"])
    # Of one wording the reference leaves times as text.
    spans = [tuple(map(float, span)) for span in vector["parsed"]["timestamps"]]
    assert events == list(zip(spans, vector["parsed"]["captions"], strict=True))
    moments = parse_answer(vector["answer"], "captions")
    assert moments == (
        tuple(Moment(start_seconds=a, end_seconds=b, text=text) for (a, b), text in events) or None
    )


@pytest.mark.parametrize("vector", HIGHLIGHTS, ids=answer)
@pytest.mark.parametrize("task", ["highlights", "summary"])
def test_highlights_are_the_recorded_ones(vector, task):
    times, scores = read_highlights(vector["answer"])
    parsed = vector["parsed"]
    assert (times, scores) == (parsed["timestamps"], parsed["scores"])
    moments = parse_answer(vector["answer"], task) or ()
    found = [{"timestamp": one.start_seconds, "saliency_score": one.score} for one in moments]
    # A single time is none of the reference's highlights, and scores its clip all the same.
    assert found == (parsed["highlights"] or found[:1])
    assert all(one.end_seconds == one.start_seconds for one in moments)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        pytest.param(
            "5 - 7 seconds, one thing. 15 - 7 s, two",
            [((5.0, 7.0), "one thing. 1"), ((15.0, 7.0), "s, two")],
            id="a_span_within_a_longer_one",
        ),
        pytest.param(
            "start time: 3.5\nend time: 9\n* cutting bread",
            [((3.5, 9.0), "cutting bread")],
            id="a_bullet",
        ),
        pytest.param("Between 3 and 9 seconds, cut", [((3.0, 9.0), "cut.")], id="two_numbers"),
        pytest.param("5 - 7 ab", [((5.0, 7.0), "5 - 7 ab.")], id="words_too_short_for_a_caption"),
    ],
)
def test_wordings_that_no_recorded_answer_has(text, events):
    """Compared with the reference's own parser when they were written down."""
    assert read_events(text) == events


@pytest.mark.parametrize(
    ("task", "text"),
    [
        pytest.param("moment", "1..5 - 3 seconds", id="several_points"),
        pytest.param("moment", f"{'9' * 400} - 3.0 seconds", id="past_any_double"),
        pytest.param("captions", f"{'9' * 400} - 3.0 seconds, a dog", id="an_endless_caption"),
        pytest.param("captions", f"at {'9' * 5000}:00 seconds, a dog", id="past_what_int_reads"),
        pytest.param("highlights", "seconds, score: 1", id="a_score_without_a_time"),
        pytest.param("summary", "It is a dog.", id="no_highlight"),
    ],
)
def test_times_that_cannot_be_read_are_none(task, text):
    assert parse_answer(text, task) is None


def test_chat_has_no_times():
    assert parse_answer("0.0 - 3.0 seconds, a dog", "chat") == ()


@pytest.mark.parametrize(
    "text",
    ["1" * 20_000, "1 " * 20_000, ". 1" * 10_000, "1.2" * 10_000, ":1" * 10_000, "1 -" * 10_000],
    ids=["digits", "spaced", "points", "decimals", "colons", "dashes"],
)
@pytest.mark.parametrize("task", ["moment", "captions", "highlights"])
def test_a_decoder_that_repeats_itself_is_read_in_no_time(task, text):
    """Milliseconds each; expressions that go back over digits would take hours."""
    parse_answer(text, task)
