"""What a family that is told the time of each frame refuses, by its ensemble and inner models.

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

SECONDS = [0.0, 0.5, 1.5, 8191.4]
SEEN = {
    "duration_seconds": 9000.0,
    "num_visual_tokens": 256,
    "time_range_seconds": None,
    "model_seconds": SECONDS,
}


def info(**changes: object) -> np.ndarray:
    return texts(json.dumps({"timing_ms": {}, "seen": {**SEEN, **changes}}))


def options(task: str, **changes: object) -> np.ndarray:
    return texts(json.dumps({"task": task, "max_new_tokens": 4, **changes}))


def features(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


GENERATION: Arrays = {
    "FEATURES": features(4, 32, 32),
    "QUERY": texts("When?"),
    "OPTIONS": options("chat"),
    "STAGE_INFO": info(),
}
SHAPE = "FEATURES must be (T, 32, D) of 1 to 96 frames"
REFUSED_TENSORS = {
    "no_frames": ({"FEATURES": features(0, 32, 32)}, SHAPE),
    "a_token": ({"FEATURES": features(4, 31, 32)}, "FEATURES must have 32 tokens a frame, got 31"),
    "fewer_frames_than_times": (
        {"FEATURES": features(3, 32, 32)},
        "model_seconds must have a time for each of the 3 frames of FEATURES, got 4",
    ),
    "no_times": ({"STAGE_INFO": info(model_seconds=None)}, "a time for each of 1 to 96 frames"),
    "a_time_past_the_table": (
        {"STAGE_INFO": info(model_seconds=[0.0, 0.0, 0.0, 8191.5])},
        "model_seconds must be at most 8191 s, the last that the model knows, got 8191.5",
    ),
    "times_that_fall": (
        {"STAGE_INFO": info(model_seconds=[1.0, 0.0, 2.0, 3.0])},
        "model_seconds must be finite, >= 0 and never fall",
    ),
    "other_number_of_tokens": (
        {"STAGE_INFO": info(num_visual_tokens=128)},
        "num_visual_tokens must be 256 for 4 frames, got 128",
    ),
    "placeholder": (
        {"QUERY": texts("an <ImageHere>")},
        "must not contain the placeholder <ImageHere>",
    ),
}
REFUSED_QUESTIONS = {
    "moment_of_nothing": (options("moment"), " . ", "must say what to look for"),
    "captions_of_something": (options("captions"), "x", "must be empty with task captions"),
    "frames": (options("chat", num_frames=97), "x", "num_frames must be <= 96 for this model"),
}


@pytest.fixture(scope="module")
def good(clips) -> Arrays:
    return {
        "VIDEO": upload(clips["carphone_pristine"].read_bytes()),
        "QUERY": texts("When?"),
        "OPTIONS": texts(AnswerOptions(task="chat", num_frames=8, max_new_tokens=4).to_json()),
    }


@pytest.fixture(scope="module", autouse=True)
def judge(timed, good) -> Iterator[Judge]:
    with judged(timed, "vtgllm", good=good, generation=GENERATION) as asking:
        yield asking


@pytest.mark.parametrize("name", REFUSED_TENSORS)
def test_generation_refuses_what_no_step_gives(name, judge):
    changes, message = REFUSED_TENSORS[name]
    answer = judge.ask("generation", {**GENERATION, **changes})
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
    assert message in answer.message


@pytest.mark.parametrize("name", REFUSED_QUESTIONS)
def test_questions_are_refused_before_anything_is_decoded(name, judge, timed):
    asked, query, message = REFUSED_QUESTIONS[name]
    before = timed.metrics()
    video = upload(judge.good["VIDEO"].tobytes() + FREE_BOX)
    refusal = judge.ask("vtgllm", {"VIDEO": video, "QUERY": texts(query), "OPTIONS": asked})
    assert isinstance(refusal, RejectedError), "an answer, not a refusal"
    assert refusal.code == "INVALID_ARG"
    assert message in refusal.message
    assert timed.growth(before)["frames_decoded_total"] == 0


@pytest.mark.parametrize("task", ["question", "referring"])
def test_a_task_of_another_family_is_refused_by_name(task, judge):
    refusal = judge.ask("vtgllm", {**judge.good, "OPTIONS": options(task)})
    assert isinstance(refusal, RejectedError)
    assert refusal.code == "UNSUPPORTED"
    assert "has the tasks moment, captions, highlights, summary, chat" in refusal.message


@pytest.mark.parametrize("shape", [(1, 224, 224), (1, 336, 336, 3), (0, 224, 224, 3)], ids=str)
def test_encoder_refuses_frames_that_no_decoder_gives(shape, judge):
    answer = judge.ask("vision_encoder", {"PIXELS": np.zeros(shape, np.uint8)})
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
