import pytest

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from groundserve.options import ScoreOptions, parse_options

LIMITS = Limits()


@pytest.mark.parametrize("text", ["", b"", "  \n", "{}"])
def test_absent_or_empty_means_all_defaults(text):
    assert parse_options(text, limits=LIMITS) == ScoreOptions()


def test_defaults_are_the_documented_ones():
    assert ScoreOptions() == ScoreOptions(
        num_frames=None,
        sample_fps=1.0,
        sampling="eval",
        seek="exact",
        top_k=32,
        selector="topk",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be one JSON object"),
        (b"\xff{}", "must be one JSON object in UTF-8"),
        ("[" * 2000, "must be one JSON object"),
        ('{"frames": 3}', 'unknown option "frames"; known options: num_frames'),
        ('{"top_k": 1, "top_k": 2}', 'must hold each key once, got "top_k" twice'),
        ('{"sample_fps": NaN}', "must hold finite numbers, got NaN"),
        ('{"sample_fps": 1' + "0" * 400 + "}", "sample_fps must be finite and > 0"),
        ('{"sample_fps": 0}', "sample_fps must be finite and > 0, got 0"),
        ('{"num_frames": true}', "num_frames must be a whole number, got true"),
        ('{"num_frames": 8.0}', "num_frames must be a whole number, got 8.0"),
        ('{"num_frames": 0}', "num_frames must be >= 1, got 0"),
        ('{"num_frames": 1' + "0" * 3000 + "}", "num_frames must be <= 1024"),
        ('{"num_frames": null}', "num_frames must have a value or be left out, got null"),
        ('{"seek": "fast"}', 'seek must be one of exact, keyframe, got "fast"'),
        ('{"selector": ["topk"]}', "selector must be one of topk"),
    ],
)
def test_bad_options_are_refused_with_the_rule(text, message):
    with pytest.raises(InvalidRequestError, match=message):
        parse_options(text, limits=LIMITS)


def test_a_number_of_thousands_of_digits_is_refused():
    text = '{"top_k": 1' + "0" * 10000 + "}"
    with pytest.raises(InvalidRequestError, match="OPTIONS holds a number that is too long"):
        parse_options(text, limits=Limits(max_options_bytes=20000))


def test_options_with_such_a_number_are_not_sent():
    with pytest.raises(InvalidRequestError, match="the options hold a number that is too long"):
        ScoreOptions(top_k=10**5000).to_json()


def test_text_past_the_ceiling_is_refused_before_it_is_parsed():
    with pytest.raises(InvalidRequestError, match="at most 4096 bytes, got 5000"):
        parse_options("x" * 5000, limits=LIMITS)


def test_an_error_repeats_no_more_than_a_line():
    with pytest.raises(InvalidRequestError) as error:
        parse_options('{"' + "k" * 3000 + '": 1}', limits=LIMITS)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("value", [0, -1, float("nan"), True])
def test_limits_must_be_positive(value):
    with pytest.raises(InvalidRequestError, match="max_num_frames must be > 0"):
        Limits(max_num_frames=value)
