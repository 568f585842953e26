"""What a request to a head of text makes of the server's answer; the server's own tensors of it."""

import json
import pickle

import numpy as np
import pytest

from groundserve import (
    AnswerOptions,
    GroundserveError,
    results,
)
from groundserve.answers import Answer, GenerationInfo, Moment
from groundserve.client._answer_request import AnswerRequest
from python_backend.triton._answer import answer_tensors
from tests.support.results import make_info

QUERIES = ["Où est le vélo ?", "", "When?"]
INFO = make_info(engine={"family": "vtimellm"})
GENERATION = GenerationInfo(
    prefix_tokens=135,
    prompt_tokens=42,
    generated_tokens=4,
    seed=2**63 - 1,
    time_range_seconds=(0.5, 10.0),
    stop_reasons=("eos", "length", "deadline"),
    is_read=(True, True, False),
)


def make_answer(query, token_ids, text, moments, stop_reason):
    return Answer(
        query=query,
        task="captions",
        prompt_token_ids=np.array([1, -200, *map(ord, query)], np.int32),
        token_ids=np.array(token_ids, np.int32),
        text=text,
        moments=moments,
        stop_reason=stop_reason,
    )


ANSWERS = [
    make_answer(
        QUERIES[0],
        [5, 6, 2],
        "au début ✓",
        (
            Moment(start_seconds=0.5, end_seconds=2.25, text="un vélo"),
            Moment(start_seconds=3.0, end_seconds=1.0, score=0.5),
        ),
        "eos",
    ),
    make_answer(QUERIES[1], [7], "", (Moment(start_seconds=0.0, end_seconds=0.1),), "length"),
    make_answer(QUERIES[2], [], "", (), "deadline"),
]


def request(queries=tuple(QUERIES), **changes):
    given = {"video": b"a video", "video_uri": None, "options": AnswerOptions(task="captions")}
    return AnswerRequest(queries=queries, request_id="r-1", **given | changes)


def sent(answers=ANSWERS, generation=GENERATION, **changes):
    """Tensors as gRPC gives them: views of bytes, which nobody may write to."""
    info = {**INFO.to_json(), "generation": generation.to_json()}
    arrays = {
        "FRAME_INDICES": np.array([0, 0, 50]),
        "PTS_SECONDS": np.array([0.0, 0.0, 2.0]),
        **answer_tensors(answers),
        "INFO": np.array([json.dumps(info).encode()], np.object_),
        **changes,
    }
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def test_the_answers_come_out_as_they_went_in():
    result = request().to_result(sent())
    assert [answer.to_json() for answer in result.answers] == [one.to_json() for one in ANSWERS]
    assert result.generation == GENERATION
    assert result.info == INFO
    assert result.frame_indices.tolist() == [0, 0, 50]
    assert result.pts_seconds.tolist() == [0.0, 0.0, 2.0]
    assert (result.video, result.request_id) == ("<bytes>", "r-1")
    # Whatever a family's facts are called, they hide none of these.
    assert result.to_json().keys() - results._KEYS == set()


def test_a_result_has_arrays_of_its_own():
    given = sent()
    result = request().to_result(given)
    arrays = [result.frame_indices, result.pts_seconds]
    for answer in result.answers:
        arrays += [answer.prompt_token_ids, answer.token_ids]
    for array in arrays:
        assert array.flags.writeable
        assert not any(np.shares_memory(array, one) for one in given.values() if one.dtype != "O")
    assert pickle.loads(pickle.dumps(result)).to_json() == result.to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"ANSWER": np.array([b"a", b"\xff", b"c"], np.object_)},
        {"TOKEN_OFFSETS": np.array([0, 3, 4])},
        {"TOKEN_OFFSETS": np.array([0, 4, 3, 4])},
        {"MOMENT_TEXTS": np.array([b"one"], np.object_)},
        {"MOMENT_TEXTS": np.array([b"\xff", b"", b""], np.object_)},
        {"INFO": np.array([json.dumps(INFO.to_json()).encode()], np.object_)},
        {
            "INFO": np.array(
                [json.dumps({**make_info().to_json(), "generation": GENERATION.to_json()})],
                np.object_,
            )
        },
        {"INFO": np.array([b"{"], np.object_)},
    ],
    ids=lambda changes: f"{next(iter(changes))}-{next(iter(changes.values())).tolist()!s:.30}",
)
def test_what_no_server_of_ours_sends_is_the_servers_fault(changes):
    with pytest.raises(GroundserveError, match="does not answer as groundserve does") as caught:
        request().to_result(sent(**changes))
    assert type(caught.value) is GroundserveError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_tokens", 1.5),
        ("seed", -1),
        ("time_range_seconds", [1.0]),
        ("stop_reasons", "eos"),
        ("is_read", [1, 0, 1]),
    ],
)
def test_generation_that_no_server_of_ours_sends_is_refused_by_its_field(name, value):
    info = {"generation": {**GENERATION.to_json(), name: value}}
    with pytest.raises(GroundserveError, match=f"{name} must be "):
        GenerationInfo.from_json(json.dumps(info))


def test_generation_of_a_newer_server_is_read():
    newer = {"generation": {**GENERATION.to_json(), "drafted_tokens": 5}, "other": [1]}
    assert GenerationInfo.from_json(json.dumps(newer)) == GENERATION
    unknown = {**GENERATION.to_json(), "seed": None, "time_range_seconds": None}
    read = GenerationInfo.from_json(json.dumps({"generation": unknown}).encode())
    assert (read.seed, read.time_range_seconds) == (None, None)
