"""Questions to a head of text: what is refused before a video is decoded, and what answers say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from groundserve.answers import Moment
from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt, SeenVideo
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from python_backend.answers import Prompts, read_answers
from python_backend.generate import Generated, Generation

MAX_TOKENS = 40
SEEN = SeenVideo(
    duration_seconds=10.0,
    num_visual_tokens=12,
    time_range_seconds=(2.0, 6.0),
    model_seconds=None,
)


class Spec:
    feature_width, max_feature_tokens, max_tokens = 4, 12, MAX_TOKENS


class Letters:
    """Three tokens, the video, and a token for each letter of a question."""

    end_ids = frozenset({0})

    def prompt(self, query, options, seen):
        if "!" in query:
            raise InvalidRequestError("QUERY must not shout")
        ids = [1, 2, 3, VISUAL_TOKEN_ID, *map(ord, query)]
        return Prompt(token_ids=np.array(ids), num_prefix=4)

    def text(self, token_ids):
        return "".join(map(chr, token_ids)).strip("\0")


class Halves:
    """A family whose answers say a half of what was seen."""

    name = "halves"
    tasks = ("moment", "chat")
    tasks_without_query = ()

    def parse(self, text, task, seen):
        if task == "chat":
            return ()
        start, end = seen.time_range_seconds
        middle = (start + end) / 2
        halves = {"first": (start, middle), "second": (middle, end)}
        if text not in halves:
            return None
        first, last = halves[text]
        return (Moment(start_seconds=first, end_seconds=last),)


def parse(*queries, limits=None, **options):
    return Prompts.parse(
        queries,
        AnswerOptions(**{"max_new_tokens": 8, **options}),
        family=Halves(),
        tokenizer=Letters(),
        model=Spec(),
        limits=limits or Limits(),
    )


def test_prompt_video_and_answer_together_fit_the_decoder_or_are_refused_with_all_counts():
    # 3 tokens before, 12 of the video, 17 of the question and 8 to come.
    assert len(parse("a" * 17).of(SEEN)) == 1
    message = (
        r"QUERY\[1\] has 21 tokens with the prompt around it, beside 12 visual tokens and "
        "max_new_tokens 8, together more than 40; shorten it or ask for fewer new tokens"
    )
    with pytest.raises(InvalidRequestError, match=message):
        parse("a", "a" * 18).of(SEEN)
    with pytest.raises(InvalidRequestError, match="max_new_tokens 25, together more than 40"):
        parse("a", max_new_tokens=25).of(SEEN)
    assert len(replace(parse("a" * 100), max_tokens=None).of(SEEN)) == 1


def generation_of(*texts, seed=None):
    ends = {"": "deadline", "endless": "length"}
    return Generation(
        answers=tuple(
            Generated(
                token_ids=np.array([*map(ord, text), *([] if text in ends else [0])], np.int32),
                stop_reason=ends.get(text, "eos"),
            )
            for text in texts
        ),
        prefix_tokens=15,
        prompt_tokens=3,
        seed=seed,
    )


def read(queries, generation):
    return read_answers(queries, queries.of(SEEN), generation, family=Halves(), seen=SEEN)


def test_times_are_read_of_each_answer_and_never_invented():
    read_back = read(parse("a", "b", "c"), generation_of("second", "endless", "", seed=7))
    first, second, third = read_back.answers
    assert (first.query, first.text, first.stop_reason) == ("a", "second", "eos")
    assert first.moments == (Moment(start_seconds=4.0, end_seconds=6.0),)
    assert first.token_ids.tolist() == [*map(ord, "second"), 0]
    assert first.token_ids.dtype == first.prompt_token_ids.dtype == np.int32
    assert first.prompt_token_ids.tolist() == [1, 2, 3, -200, 97]
    assert (second.text, second.moments, second.stop_reason) == ("endless", (), "length")
    assert (third.text, third.moments, third.stop_reason) == ("", (), "deadline")
    assert json.loads(json.dumps(read_back.generation.to_json())) == {
        "prefix_tokens": 15,
        "prompt_tokens": 3,
        "generated_tokens": 14,
        "seed": 7,
        "time_range_seconds": [2.0, 6.0],
        "stop_reasons": ["eos", "length", "deadline"],
        "is_read": [True, False, False],
    }
