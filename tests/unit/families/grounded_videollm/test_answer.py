"""The times in Grounded-VideoLLM's answers, against what its reference printed of them."""

import pytest

from groundserve.answers import Moment
from groundserve.families.grounded_videollm.answer import parse_answer
from groundserve.families.grounded_videollm.times import find_times
from tests.unit.families.grounded_videollm.recorded import FUNCTIONS, RECORDED, seen

PRINTED = [
    *((v["llm"], v["duration"], v["text"], v["result"]) for v in FUNCTIONS["parse_time_interval"]),
    *(
        (case["llm"], item["duration"], decoded["text"], decoded["parsed"])
        for case in RECORDED["cases"]
        for item, decoded in zip(case["items"], case["decode"], strict=True)
    ),
]


@pytest.mark.parametrize(("llm", "duration", "text", "printed"), PRINTED)
def test_times_are_those_that_the_reference_prints(llm, duration, text, printed):
    """It puts seconds in their places, behind a space where its tokenizer takes one."""
    found, behind = "", 0
    for time in find_times(text, duration):
        space = " " if llm == "phi3.5" else ""
        found += f"{text[behind : time.start]}{space}{time.seconds:.2f} seconds"
        behind = time.end
    assert found + text[behind:] == printed


@pytest.mark.parametrize("text", ["From<30> to<53>.", "From <30> to <53>."])
def test_a_moment_is_two_times(text):
    (moment,) = parse_answer(text, "moment", seen(142.04))
    assert (round(moment.start_seconds, 2), round(moment.end_seconds, 2)) == (14.20, 25.09)
    assert (moment.text, moment.score) == ("", None)


def test_several_moments_come_in_the_order_of_the_text():
    text = "From <200> to <250>, and from <20> to <10>. Then <7>."
    moments = parse_answer(text, "moment", seen(30.0))
    assert moments == (
        Moment(start_seconds=20.0, end_seconds=25.0),
        Moment(start_seconds=2.0, end_seconds=1.0),
    )


@pytest.mark.parametrize(
    "text",
    [
        "From<0> to<100>, a man rides. From<100> to<300>, he falls; it is <5>.",
        "From <0> to <100>, a man rides. From <100> to <300>, he falls; it is <5>.",
        "<0> - <100>: a man rides.\n<100> - <300>: he falls; it is <5>.\n",
    ],
)
def test_a_caption_is_what_follows_its_times(text):
    assert parse_answer(text, "captions", seen(9.0)) == (
        Moment(start_seconds=0.0, end_seconds=3.0, text="a man rides."),
        Moment(start_seconds=3.0, end_seconds=9.0, text="he falls; it is <5>."),
    )


@pytest.mark.parametrize(
    "text", ["", "It is a dog.", "At <5>.", "from 5 to 9", "<-1> < 7> <1.5>", f"<{'9' * 400}> <3>"]
)
def test_times_that_cannot_be_read_are_none(text):
    assert parse_answer(text, "moment", seen(9.0)) is None
    assert parse_answer(text, "captions", seen(9.0)) is None


def test_a_long_blank_is_searched_once():
    """A search from each of its places would not end."""
    blank = " " * 2_000_000
    moments = parse_answer(f"<0> <100> a{blank}man{blank}from <100> <300>", "captions", seen(9.0))
    assert [moment.text for moment in moments] == [f"a{blank}man", ""]


@pytest.mark.parametrize("task", ["question", "referring", "chat"])
def test_other_tasks_have_no_times(task):
    assert parse_answer("From <30> to <53>.", task, seen(9.0)) == ()
