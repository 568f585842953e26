"""The times in VTimeLLM's answers, against what its reference's evaluation read."""

import json

import pytest

from groundserve.answers import Moment
from groundserve.families.plans import SeenVideo
from groundserve.families.vtimellm.answer import find_span, parse_answer, read_events
from tests.support.reference import VTIMELLM

RECORDED = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))
GROUNDING = RECORDED["grounding_answers"]
CAPTIONING = RECORDED["captioning_answers"]


def seen(start, end):
    return SeenVideo(
        duration_seconds=end,
        num_visual_tokens=100,
        time_range_seconds=(start, end),
        model_seconds=None,
    )


@pytest.mark.parametrize("vector", GROUNDING, ids=lambda vector: vector["answer"] or "nothing")
def test_spans_are_the_recorded_ones(vector):
    span = find_span(vector["answer"])
    assert (span and list(span)) == vector["parsed_index"]


@pytest.mark.parametrize("vector", CAPTIONING, ids=lambda vector: vector["answer"])
def test_events_are_the_recorded_ones(vector):
    events = read_events(vector["answer"])
    items = [{"timestamp": list(span), "sentence": text} for span, text in events or []]
    assert items == vector["items_parsed"]
    # "None" is what says that there was nothing to read.
    assert (events is None) == (vector["parse_error_printed"] and not items)


# Where the evaluation made one of several neighbours, its seconds are not of the answer.
UNMERGED = [v for v in CAPTIONING if len(v["items_parsed"]) == len(v["items_scored_seconds"])]


@pytest.mark.parametrize("vector", UNMERGED, ids=lambda vector: vector["answer"])
def test_seconds_of_captions_are_the_recorded_ones(vector):
    moments = parse_answer(vector["answer"], "captions", seen(0.0, vector["duration"]))
    assert [
        {"sentence": moment.text, "timestamp": [moment.start_seconds, moment.end_seconds]}
        for moment in moments or ()
    ] == vector["items_scored_seconds"]


def test_a_moment_is_of_what_was_seen():
    """Both ends are beginnings of hundredths; a clip's are counted from its start."""
    text = "From 17 to 34."
    (whole,) = parse_answer(text, "moment", seen(0.0, 50.0))
    (clip,) = parse_answer(text, "moment", seen(2.0, 52.0))
    assert whole == Moment(start_seconds=8.5, end_seconds=17.0)
    assert clip == Moment(start_seconds=10.5, end_seconds=19.0)


def test_a_caption_ends_with_its_last_hundredth():
    text = '[{"event": "A dog runs.", "timestamps": "from 17 to 34"}]'
    (moment,) = parse_answer(text, "captions", seen(2.0, 52.0))
    assert moment == Moment(start_seconds=10.5, end_seconds=19.5, text="A dog runs.")


def test_an_end_before_the_start_stays():
    (moment,) = parse_answer("from 34 to 17", "moment", seen(0.0, 100.0))
    assert (moment.start_seconds, moment.end_seconds) == (34.0, 17.0)


@pytest.mark.parametrize("text", ["", "It is a dog.", "from 5 to 9"])
def test_times_that_cannot_be_read_are_none(text):
    assert parse_answer(text, "moment", seen(0.0, 9.0)) is None
    assert parse_answer(text, "captions", seen(0.0, 9.0)) is None


@pytest.mark.parametrize("text", ["From 17 to 34.", '[{"event": "A", "timestamps": "from 0"}]'])
def test_chat_has_no_times(text):
    assert parse_answer(text, "chat", seen(0.0, 9.0)) == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 4000 + "]" * 4000, id="deep"),
        pytest.param("[" + "9" * 5000 + "]", id="a_number_past_what_python_reads"),
        pytest.param('["event timestamps"]', id="words"),
        pytest.param('[{"event": 3, "timestamps": "from 00 to 10"}]', id="an_event_of_no_words"),
    ],
)
def test_lists_of_something_else_are_not_read(text):
    assert parse_answer(text, "captions", seen(0.0, 9.0)) is None
