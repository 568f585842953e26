"""What is asked, to the character, and how replies are read."""

import pytest

from groundserve.evaluation.qa.prompts import NO_SUBTITLES, make_prompt, shown_subtitles
from groundserve.evaluation.qa.replies import first_letter, is_refusal, score_reply
from tests.unit.evaluation.qa.questions import question

LINES = ("A. x", "B. y", "C. z")


@pytest.mark.parametrize(
    ("layout", "text", "options", "expected"),
    [
        (
            "videomme",
            "What?",
            LINES,
            "Select the best answer to the following multiple-choice question based on the video "
            "and the subtitles. Respond with only the letter (A, B, C, or D) of the correct "
            "option.\nWhat?\nA. x\nB. y\nC. z\nPlease respond with only the letter of the correct "
            "answer.",
        ),
        (
            "mlvu",
            "What?\n(A) x\n(B) y",
            (),
            "\nWhat?\n(A) x\n(B) y\nOnly give the best option.\n\nBest option: (",
        ),
        (
            "longvideobench",
            "What?",
            LINES,
            "What?\nA. x\nB. y\nC. z\nAnswer with the option's letter from the given choices "
            "directly.\n",
        ),
        (
            "cgbench",
            "What?",
            LINES,
            "This video's subtitles are listed below: \nNo subtitles available\nSelect the best "
            "answer to the following multiple-choice question based on the video and the "
            "subtitles. Respond with only the letter of the correct option.\nWhat?\nA. x\nB. y\n"
            "C. z\nThe best answer is:",
        ),
    ],
)
def test_prompts_are_the_references(layout, text, options, expected):
    assert make_prompt(question(layout=layout, text=text, options=options)) == expected


SRT = """1
00:00:00,000 --> 00:00:01,000
first
line two

2
00:00:02,500 --> 00:00:02,600
between two frames

3
00:00:31,000 --> 00:01:00,000
last
"""


def test_subtitles_are_those_of_32_uniform_frames(tmp_path):
    path = tmp_path / "v.srt"
    path.write_text(SRT, "utf-8")
    # 32 frames at 1 a second: each is looked at. The file's last newline is a blank there.
    said = shown_subtitles(path, num_source_frames=32, fps=1.0)
    assert said == "first line two\nlast "
    # Of 320 frames at 10 a second every tenth or so: number 25 is not among them.
    assert shown_subtitles(path, num_source_frames=320, fps=10.0) == "first line two\nlast "
    prompt = make_prompt(question(), subtitles=said)
    assert prompt.startswith(
        "This video's subtitles are listed below: \nfirst line two\nlast \nSel"
    )


@pytest.mark.parametrize(
    "text", ["1\n00:00 --> 00:01\nx\n", "1\nno times\nx\n", "1\n0:0:0,0 -> 0:0:1,0\nx\n", None]
)
def test_subtitles_that_cannot_be_read_are_none(tmp_path, text):
    path = tmp_path / "v.srt"
    if text is not None:
        path.write_text(text, "utf-8")
    assert shown_subtitles(path, num_source_frames=10, fps=1.0) == NO_SUBTITLES


@pytest.mark.parametrize(
    ("reply", "videomme", "longvideobench", "cgbench"),
    [
        ("B", "B", "B", "B"),
        (" (C) a cow", "C", "C", "C"),
        ("The best answer is D.", "D", "D", "D"),
        # Traps that come with the rule: the first letter, wherever it stands.
        ("Best option: (C)", "B", "C", "B"),
        ("The best option is C", "C", "C", "C"),
        ("A cat, so (D)", "A", "A", "A"),
        ("E", None, "E", "E"),
    ],
)
def test_the_first_letter_is_the_answer(reply, videomme, longvideobench, cgbench):
    assert first_letter(reply, "videomme") == first_letter(reply, "mlvu") == videomme
    assert first_letter(reply, "longvideobench") == longvideobench
    assert first_letter(reply, "cgbench") == cgbench


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("I'm sorry, I can't help with that.", True),
        ("I\u2019m sorry, but no.", True),
        ("Sorry, but I must decline. B", True),
        ("B. I'm sorry to say", False),
        ("I think B", False),
        ("", False),
    ],
)
def test_refusals(reply, expected):
    assert is_refusal(reply) is expected


@pytest.mark.parametrize(
    ("layout", "reply", "is_refused", "expected"),
    [
        ("cgbench", "B", False, 1.0),
        ("cgbench", "B", True, 0.0),
        # The reference would take the B of "But".
        ("cgbench", "Sorry, I refuse. But", False, 0.0),
        ("longvideobench", "none of them", False, 1 / 3),
        ("longvideobench", "I'm sorry, none", False, 0.0),
    ],
)
def test_scores(layout, reply, is_refused, expected):
    assert score_reply(question(layout=layout), reply, is_refused=is_refused) == expected
