"""The picture of an answer's moments: a row a question, and whatever a model may say."""

from __future__ import annotations

import pytest
from PIL import Image

from groundserve.answers import Moment
from groundserve.errors import InvalidRequestError
from groundserve.visuals import save_moment_plot
from tests.support.results import make_answer, make_answers

GREEN = (42, 157, 143)


def moment(start: float, end: float, text: str = "") -> Moment:
    return Moment(start_seconds=start, end_seconds=end, text=text)


def draw(path, *answers, **generation):
    save_moment_plot(path, make_answers(*answers, **generation))
    return Image.open(path).convert("RGB")


def columns_of(image, colour, *, within=40):
    """Return the columns with pixels of about that colour, as shares of the width."""
    width, height = image.size
    return [
        x / width
        for x in range(width)
        if any(
            max(abs(a - b) for a, b in zip(image.getpixel((x, y)), colour, strict=True)) < within
            for y in range(height)
        )
    ]


def test_a_moment_lies_where_it_is_in_the_video(tmp_path):
    image = draw(tmp_path / "a.png", make_answer(moments=(moment(1, 2),)))
    found = columns_of(image, GREEN)
    # Of 4 s, with the margins that the numbers below need.
    assert min(found) == pytest.approx(0.25, abs=0.02)
    assert max(found) == pytest.approx(0.5, abs=0.02)


def test_what_was_not_seen_is_grey(tmp_path):
    answer = make_answer(moments=(moment(1, 4),))
    for seen, is_grey in (((0.0, 4.0), False), ((1.0, 4.0), True)):
        image = draw(tmp_path / "a.png", answer, time_range_seconds=seen)
        at_half_a_second = image.getpixel((image.width // 8, image.height * 2 // 5))
        assert (max(at_half_a_second) < 240) == is_grey


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param((), id="none"),
        pytest.param((moment(3, 1),), id="reversed"),
        pytest.param((moment(4, 4),), id="no_length"),
        pytest.param((moment(0, 9999),), id="past_the_end"),
        pytest.param((moment(0, 1, "costs $5 or $6\nand \\frac{"),), id="mathematics"),
        pytest.param((moment(0, 1, "走过 \x1b[31m"),), id="not_in_the_font"),
        pytest.param(tuple(moment(0, 1) for _ in range(500)), id="hundreds"),
    ],
)
def test_whatever_a_model_says_can_be_drawn(tmp_path, moments):
    assert draw(tmp_path / "a.png", make_answer(moments=moments)).height < 2000


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"cannot write .*none"):
        save_moment_plot(tmp_path / "none" / "a.png", make_answers(make_answer()))
