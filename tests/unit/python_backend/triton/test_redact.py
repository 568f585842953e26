from __future__ import annotations

import json
from functools import partial

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from groundserve.options import parse_options
from python_backend.sources import file_path
from python_backend.triton._redact import describe_failure, without_quotations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the video's codec must be h264", "the video's codec must be h264"),
        ("got 'a secret'; change it", 'got "..."; change it'),
        ('got "it\'s a secret" and "more"; change it', 'got "..."; change it'),
        ('got "cut off...; known: a, b', 'got "..."'),
        ("got 'cut off", 'got "..."'),
        ("got b'secret'", 'got b"..."'),
        ('got {"a": 1, "b": [2]}', 'got {"...": [2]}'),
        ("got 'a\nb'", 'got "..."'),
    ],
)
def test_quotations_are_left_out(text, expected):
    assert without_quotations(text) == expected


SECRETS = ["secret", "it's secret", 'a "secret"', "secret\n", "secret" * 99, "'secret", "x' secret"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["key", "twice", "value", "nested", "uri"])
def test_no_message_about_a_request_shows_what_was_in_it(secret, place):
    quoted = json.dumps(secret)
    texts = {
        "key": f"{{{quoted}: 1}}",
        "twice": f"{{{quoted}: 1, {quoted}: 2}}",
        "value": f'{{"selector": {quoted}}}',
        "nested": f'{{"top_k": [{quoted}]}}',
        "uri": secret,
    }
    read = file_path if place == "uri" else partial(parse_options, limits=Limits())
    with pytest.raises(InvalidRequestError) as caught:
        read(texts[place])
    assert "secret" not in without_quotations(str(caught.value))


def test_failure_says_where_and_what_but_not_with_which_text():
    try:
        try:
            raise KeyError("secret question")
        except KeyError:
            raise OSError(2, "No such file or directory", "/secret/path") from None
    except OSError as error:
        text = describe_failure(error)
    assert "test_redact.py" in text
    assert "No such file or directory" in text
    assert "secret" not in text.replace("raise ", "").partition("Error: ")[2]
