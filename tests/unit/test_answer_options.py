import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.options import AnswerOptions

BETWEEN = "clip_seconds must be finite with 0 <= start < end, got "
PAIR = r"clip_seconds must be \(start, end\), two numbers, got "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_frames": 0}, "num_frames must be >= 1, got 0"),
        ({"num_frames": True}, "num_frames must be a whole number, got true"),
        ({"clip_seconds": (-1, 2)}, BETWEEN + r"\[-1, 2\]"),
        ({"clip_seconds": (2, 2)}, BETWEEN),
        ({"clip_seconds": (0, float("inf"))}, BETWEEN),
        ({"clip_seconds": (0, float("nan"))}, BETWEEN),
        ({"clip_seconds": ("0", "1")}, PAIR),
        ({"clip_seconds": 5}, PAIR + "5"),
    ],
)
def test_bad_options_are_refused_with_the_rule(given, message):
    with pytest.raises(InvalidRequestError, match=message):
        AnswerOptions(**given)


def test_an_option_that_a_family_does_not_know_is_refused_by_name():
    AnswerOptions().check_known(family="any")
    AnswerOptions(num_frames=8).check_known("num_frames", family="any")
    with pytest.raises(UnsupportedError, match="any has no option clip_seconds; leave it out"):
        AnswerOptions(num_frames=8, clip_seconds=(0, 1)).check_known("num_frames", family="any")
