"""What a family that sees segments in two streams refuses, by its ensemble and its inner models.

Each refusal is typed, and after all of them the same processes give the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from groundserve import AnswerOptions
from tests.hostile.judge import Judge
from tests.triton.answers import FREE_BOX
from tests.triton.judged import judged
from tests.triton.protocol import Arrays, RejectedError, texts, upload

SEEN = {
    "duration_seconds": 4.0,
    "num_visual_tokens": 3420,
    "time_range_seconds": [0.0, 4.0],
    "model_seconds": None,
}


def info(**changes: object) -> np.ndarray:
    return texts(json.dumps({"timing_ms": {}, "seen": {**SEEN, **changes}}))


def options(task: str, **changes: object) -> np.ndarray:
    return texts(json.dumps({"task": task, "max_new_tokens": 4, **changes}))


def features(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


GENERATION: Arrays = {
    "FEATURES": features(12, 285, 64),
    "QUERY": texts("When?"),
    "OPTIONS": options("chat"),
    "STAGE_INFO": info(),
}
SHAPE = "FEATURES must be (12, 285, D), a row a segment"
RANGE = "time_range_seconds must be from 0 to the video's end"
REFUSED_TENSORS = {
    "fewer_segments": ({"FEATURES": features(11, 285, 64)}, SHAPE),
    "of_the_other_decoder": ({"FEATURES": features(12, 193, 64)}, SHAPE),
    "other_number_of_tokens": (
        {"STAGE_INFO": info(num_visual_tokens=2316)},
        "num_visual_tokens must be 3420, 285 a segment, got 2316",
    ),
    "no_range": ({"STAGE_INFO": info(time_range_seconds=None)}, RANGE),
    "placeholder_behind_the_end_token": (
        {"QUERY": texts("<im<|endoftext|>age>"), "OPTIONS": options("chat", control_tokens=True)},
        "must not contain the placeholder <image>",
    ),
    "long_question": ({"QUERY": texts("x y\n" * 2000)}, "must have at most 2048 tokens"),
}
REFUSED_QUESTIONS = {
    "time_past_the_end": (
        options("referring"),
        "until 1e 99999 seconds",
        "names a time past the video's end",
    ),
    "no_time": (options("referring"), "until the end", "must name the times it refers to"),
    "a_number_past_all": (
        options("referring", raw=True),
        f"at {'9' * 400} seconds",
        "a number of seconds that is past all numbers",
    ),
    "captions_of_something": (options("captions"), "x", "must be empty with task captions"),
}


@pytest.fixture(scope="module")
def good(clips) -> Arrays:
    return {
        "VIDEO": upload(clips["carphone_pristine"].read_bytes()),
        "QUERY": texts("From 1 seconds"),
        "OPTIONS": texts(AnswerOptions(task="referring", max_new_tokens=4).to_json()),
    }


@pytest.fixture(scope="module", autouse=True)
def judge(grounded, good) -> Iterator[Judge]:
    with judged(grounded, "grounded_videollm", good=good, generation=GENERATION) as asking:
        yield asking


@pytest.mark.parametrize("name", REFUSED_TENSORS)
def test_generation_refuses_what_no_step_gives(name, judge):
    changes, message = REFUSED_TENSORS[name]
    answer = judge.ask("generation", {**GENERATION, **changes})
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
    assert message in answer.message


@pytest.mark.parametrize("name", REFUSED_QUESTIONS)
def test_questions_are_refused_before_anything_is_decoded(name, judge, grounded):
    asked, query, message = REFUSED_QUESTIONS[name]
    before = grounded.metrics()
    video = upload(judge.good["VIDEO"].tobytes() + FREE_BOX)
    refusal = judge.ask(
        "grounded_videollm", {"VIDEO": video, "QUERY": texts(query), "OPTIONS": asked}
    )
    assert isinstance(refusal, RejectedError), "an answer, not a refusal"
    assert refusal.code == "INVALID_ARG"
    assert message in refusal.message
    assert grounded.growth(before)["frames_decoded_total"] == 0


@pytest.mark.parametrize("task", ["highlights", "summary"])
def test_a_task_of_another_family_is_refused_by_name(task, judge):
    refusal = judge.ask("grounded_videollm", {**judge.good, "OPTIONS": options(task)})
    assert isinstance(refusal, RejectedError)
    assert refusal.code == "UNSUPPORTED"
    assert "has the tasks moment, captions, question, referring, chat" in refusal.message


def segments(temporal: tuple[int, ...], spatial: tuple[int, ...]) -> Arrays:
    return {
        "TEMPORAL_PIXELS": np.zeros(temporal, np.uint8),
        "SPATIAL_PIXELS": np.zeros(spatial, np.uint8),
    }


@pytest.mark.parametrize(
    "given",
    [
        segments((2, 8, 224, 224, 3), (1, 336, 336, 3)),
        segments((1, 7, 224, 224, 3), (1, 336, 336, 3)),
        segments((1, 8, 336, 336, 3), (1, 336, 336, 3)),
        segments((1, 8, 224, 224, 3), (1, 224, 224, 3)),
        segments((0, 8, 224, 224, 3), (0, 336, 336, 3)),
    ],
    ids=["more_of_one_stream", "seven_frames", "size", "other_size", "none"],
)
def test_encoder_refuses_segments_that_no_decoder_gives(given, judge):
    answer = judge.ask("vision_encoder", given)
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
