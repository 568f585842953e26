"""What a family that answers in text refuses, by its ensemble and by the model `generation` alone.

Each refusal is typed, and after all of them the same processes give the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from groundserve import AnswerOptions, Client, InvalidRequestError, UnsupportedError
from tests.hostile.judge import Judge
from tests.hostile.tensors import stream
from tests.triton.judged import judged
from tests.triton.protocol import Arrays, RejectedError, texts, upload

OPTIONS = AnswerOptions(task="chat", max_new_tokens=4)
SEEN = {
    "duration_seconds": 4.0,
    "num_visual_tokens": 100,
    "time_range_seconds": [0.0, 4.0],
    "model_seconds": None,
}
ENDLESS = {"temperature": 1e9, "seed": 1}


def info(**changes: object) -> np.ndarray:
    """STAGE_INFO; a value of `seen` may be changed to anything."""
    return texts(json.dumps({"timing_ms": {}, "seen": {**SEEN, **changes}}))


def options(**changes: object) -> np.ndarray:
    return texts(json.dumps({"task": "chat", "max_new_tokens": 4, **changes}))


def features(*shape: int, fill: float = 0.5) -> np.ndarray:
    return np.full(shape, fill, np.float32)


def pixels(*shape: int) -> np.ndarray:
    return np.zeros((*shape, 3), np.uint8)


GENERATION: Arrays = {
    "FEATURES": features(100, 1, 32),
    "QUERY": texts("When?"),
    "OPTIONS": texts(OPTIONS.to_json()),
    "STAGE_INFO": info(),
}
REFUSED_TENSORS = {
    "no_frames": ({"FEATURES": features(0, 1, 32)}, "FEATURES must be (100, 1, D)"),
    "several_tokens": ({"FEATURES": features(100, 2, 32)}, "FEATURES must be (100, 1, D)"),
    "not_numbers": ({"FEATURES": features(100, 1, 32, fill=np.nan)}, "FEATURES must be finite"),
    "many_questions": (
        {"QUERY": texts(*[""] * 200_000)},
        "QUERY must hold 1..32 questions, got 200000",
    ),
    "question_with_a_video": ({"QUERY": texts("a <video>")}, "must not contain the placeholder"),
    "question_too_long": ({"QUERY": texts("x y " * 3000)}, "together more than 4096; shorten it"),
    "options_of_the_other_head": (
        {"OPTIONS": texts('{"top_k": 4}')},
        'unknown option "top_k"; known options: task, raw, ',
    ),
    "info_without_the_video": (
        {"STAGE_INFO": texts('{"timing_ms": {}}')},
        "STAGE_INFO must say what the model sees of the video (seen)",
    ),
    "info_with_more": ({"STAGE_INFO": info(more=1)}, "must be what the step before answered"),
    "long_info": (
        {"STAGE_INFO": info(model_seconds=[0.5] * 20_000)},
        "STAGE_INFO must be at most 65536 bytes",
    ),
    "deep_info": (
        {"STAGE_INFO": texts('{"timing_ms": {}, "seen":' + "[" * 60_000)},
        "STAGE_INFO must be one JSON object in UTF-8",
    ),
    "other_number_of_tokens": (
        {"STAGE_INFO": info(num_visual_tokens=1)},
        "num_visual_tokens must be 100, a token a frame, got 1",
    ),
    "range_past_the_video": (
        {"STAGE_INFO": info(time_range_seconds=[0.0, 1e300])},
        "time_range_seconds must be a part of the video",
    ),
}
REFUSED_FRAMES = {
    "long_side": (pixels(1, 200, 8193), "sides of PIXELS must be 1 to 8192"),
    "large": (pixels(1, 6000, 6000), "must have at most 35651584 pixels, got (1, 6000, 6000, 3)"),
    "many": (pixels(22, 1080, 1920), "at most 21 frames of 1920 x 1080 pixels, got 22"),
}
REFUSED_OPTIONS = {
    "endless": ({"max_new_tokens": 10**9, **ENDLESS}, "max_new_tokens must be <= 4096"),
    "no_room": ({"max_new_tokens": 4096}, "max_new_tokens 4096, together more than 4096"),
    "unknown_task": ({"task": "translate"}, "task must be one of moment, captions, "),
    "clip_backwards": ({"clip_seconds": [3, 2]}, "0 <= start < end, got [3, 2]"),
    "clip_past_the_end": ({"clip_seconds": [1e9, 2e9]}, "must start before the video ends"),
    "seed_without_draws": ({"seed": 1}, "seed goes with a temperature above 0"),
}
UNSUPPORTED_OPTIONS = {
    "task_of_another_family": (
        {"task": "highlights"},
        "vtimellm has the tasks moment, captions, chat, got highlights",
    ),
    "frames": ({"num_frames": 8}, "vtimellm has no option num_frames; leave it out"),
}


@pytest.fixture(scope="module")
def good(clips) -> Arrays:
    return {
        "VIDEO": upload(clips["vfr"].read_bytes()),
        "QUERY": texts("When?"),
        "OPTIONS": texts(OPTIONS.to_json()),
    }


@pytest.fixture(scope="module", autouse=True)
def judge(answering, good) -> Iterator[Judge]:
    with judged(answering, "vtimellm", good=good, generation=GENERATION) as asking:
        yield asking


@pytest.mark.parametrize("name", REFUSED_TENSORS)
def test_generation_refuses_tensors_that_no_step_gives(name, judge):
    changes, message = REFUSED_TENSORS[name]
    given = {**GENERATION, **changes}
    answer = judge.ask("generation", {k: v for k, v in given.items() if v is not None})
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
    assert message in answer.message


@pytest.mark.parametrize("name", REFUSED_FRAMES)
def test_encoder_refuses_frames_of_a_size_that_no_video_has(name, judge):
    frames, message = REFUSED_FRAMES[name]
    answer = judge.ask("vision_encoder", {"PIXELS": frames})
    assert isinstance(answer, RejectedError), "an answer, not a refusal"
    assert answer.code == "INVALID_ARG"
    assert message in answer.message


def test_decoder_refuses_more_large_frames_than_memory_is_set_aside_for(judge):
    segment = {
        "SEGMENTS": upload(b"0123456789"),
        "SEGMENT_OFFSETS": np.array([0, 10]),
        "LOCAL_FRAMES": np.array([0, 1], np.int32),
        "LOCAL_OFFSETS": np.array([0, 2]),
        "STREAM": stream(width=8192, height=4352),
    }
    answer = judge.ask("video_decode", segment)
    assert isinstance(answer, RejectedError)
    assert answer.message == "LOCAL_FRAMES must have at most 1 targets of 8192 x 4352 pixels, got 2"


@pytest.mark.parametrize("name", REFUSED_OPTIONS)
def test_options_are_refused_before_anything_is_decoded(name, judge, answering):
    changes, message = REFUSED_OPTIONS[name]
    before = answering.metrics()
    refusal = judge.ask(
        "vtimellm", {**judge.good, "VIDEO": new_video(judge), "OPTIONS": options(**changes)}
    )
    assert isinstance(refusal, RejectedError), "an answer, not a refusal"
    assert refusal.code == "INVALID_ARG"
    assert message in refusal.message
    assert answering.growth(before)["frames_decoded_total"] == 0


@pytest.mark.parametrize("task", ["moment", "chat"])
def test_a_question_without_words_is_refused_before_anything_is_decoded(task, judge, answering):
    before = answering.metrics()
    asked = {"VIDEO": new_video(judge), "QUERY": texts(" "), "OPTIONS": options(task=task)}
    refusal = judge.ask("vtimellm", asked)
    assert isinstance(refusal, RejectedError), "an answer, not a refusal"
    assert f"QUERY[0] must say what to ask with task {task}, got no words" in refusal.message
    assert answering.growth(before)["frames_decoded_total"] == 0


@pytest.mark.parametrize("name", UNSUPPORTED_OPTIONS)
def test_what_another_family_has_is_refused_by_name(name, judge, answering, clips):
    changes, message = UNSUPPORTED_OPTIONS[name]
    refusal = judge.ask("vtimellm", {**judge.good, "OPTIONS": options(**changes)})
    assert isinstance(refusal, RejectedError)
    assert refusal.code == "UNSUPPORTED"
    assert refusal.message == f"in ensemble 'vtimellm', {message}"
    with (
        Client(f"grpc://{answering.triton.grpc_address}") as client,
        pytest.raises(UnsupportedError) as caught,
    ):
        client.ask(clips["vfr"], "When?", replace(OPTIONS, **changes))
    assert str(caught.value) == message


def test_a_task_that_asks_by_itself_takes_no_question(answering, clips):
    with Client(f"grpc://{answering.triton.grpc_address}") as client:
        asked = AnswerOptions(task="captions", max_new_tokens=2)
        with pytest.raises(InvalidRequestError, match="must be empty with task captions"):
            client.ask(clips["vfr"], "When?", asked)
        with pytest.raises(InvalidRequestError, match="must say what to ask with task moment"):
            client.ask(clips["vfr"])
        (answer,) = client.ask(clips["vfr"], options=asked).answers
        assert (answer.query, answer.task) == ("", "captions")


def new_video(judge: Judge) -> np.ndarray:
    """A video that the cache does not know: a box that readers skip follows it."""
    return upload(judge.good["VIDEO"].tobytes() + b"\0\0\0\x08free")
