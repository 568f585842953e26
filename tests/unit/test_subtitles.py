"""Moments as subtitles: what each cue says, in which order, and what has none."""

from __future__ import annotations

from groundserve.answers import Moment
from groundserve.visuals import save_subtitles
from tests.support.results import make_answer, make_answers


def moment(start: float, end: float, text: str = "") -> Moment:
    return Moment(start_seconds=start, end_seconds=end, text=text)


def test_a_cue_for_each_moment_in_the_order_of_time(tmp_path):
    captions = make_answer(
        "", task="captions", moments=(moment(1.5, 2.25, "a man waves"), moment(3723.0006, 36000.0))
    )
    found = make_answer("the dog ---> jumps", moments=(moment(0.0, 1.9996),))
    left_out = save_subtitles(tmp_path / "a.srt", make_answers(captions, found))
    assert left_out == 0
    assert (tmp_path / "a.srt").read_text("utf-8") == (
        "1\n00:00:00,000 --> 00:00:02,000\nthe dog -> jumps\n"
        "\n"
        "2\n00:00:01,500 --> 00:00:02,250\na man waves\n"
        "\n"
        "3\n01:02:03,001 --> 10:00:00,000\ncaptions\n"
    )


def test_a_caption_of_several_lines_does_not_end_its_cue(tmp_path):
    answer = make_answer(moments=(moment(0, 1, "one\n\n2\n00:00:09,000 --> 00:00:10,000\ntwo"),))
    save_subtitles(tmp_path / "a.srt", make_answers(answer))
    lines = (tmp_path / "a.srt").read_text("utf-8").splitlines()
    assert lines[2:] == ["one 2 00:00:09,000 -> 00:00:10,000 two"]


def test_a_moment_that_ends_before_it_starts_is_counted_and_left_out(tmp_path):
    answer = make_answer(moments=(moment(3, 1), moment(2, 2)))
    assert save_subtitles(tmp_path / "a.srt", make_answers(answer)) == 1
    assert (tmp_path / "a.srt").read_text("utf-8").count("-->") == 1


def test_an_answer_without_moments_is_a_file_without_cues(tmp_path):
    assert save_subtitles(tmp_path / "a.srt", make_answers(make_answer(moments=()))) == 0
    assert (tmp_path / "a.srt").read_bytes() == b""
