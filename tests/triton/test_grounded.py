"""A family that sees segments in two streams, through the real server: recorded cases, counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from groundserve import AnswerOptions, Client
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.support.grounded_cases import CASES
from tests.triton.answers import FREE_BOX, assert_same, growth, url

EIGHT = [f"Who holds the number {number}?" for number in range(8)]
CHAT = AnswerOptions(task="chat", max_new_tokens=4)


@pytest.fixture(scope="module")
def client(grounded) -> Iterator[Client]:
    with Client(url(grounded.triton)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(grounded_engines) -> Iterator[Pipeline]:
    with Pipeline.open(grounded_engines("phi3.5")) as opened:
        yield opened


def check(case, result) -> None:
    (answer,) = result.answers
    assert result.frame_indices.tolist() == case.frame_indices
    assert answer.prompt_token_ids.tolist() == case.input_ids
    # What PyTorch and ONNX Runtime differ by is far below what two recorded contenders do.
    num_sure = case.num_sure(1e-4)
    assert answer.token_ids[:num_sure].tolist() == case.token_ids[:num_sure]
    if num_sure == len(case.token_ids):
        assert answer.text == case.text
        assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model == "phi3.5"], ids=lambda case: case.name
)
def test_recorded_cases(client, pipeline, clips, case):
    result = client.ask(case.path(clips), case.query, case.options)
    check(case, result)
    assert_same(result, pipeline.ask(case.path(clips), case.query, case.options))


def test_recorded_cases_of_the_other_decoder(grounded_engines, clips, tmp_path):
    server = TritonServer(
        grounded_engines("llama3"),
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        log_file=tmp_path / "log",
    )
    cases = [case for case in CASES if case.model == "llama3"]
    assert len(cases) == 6
    with server, Client(url(server)) as client:
        for case in cases:
            check(case, client.ask(case.path(clips), case.query, case.options))


def test_eight_questions_cost_one_decode_one_vision_pass_and_one_prefix(grounded, client, clips):
    data = clips["carphone_pristine"].read_bytes() + FREE_BOX  # which no cache knows
    before = grounded.metrics()
    together = client.ask(data, EIGHT, CHAT)
    counted = growth(grounded, before)
    assert counted["frames_decoded"] == len(np.unique(together.frame_indices)) == 96
    # Each segment once, in chunks of 64 frames.
    assert (counted["vision_frames"], counted["vision_passes"]) == (12, 2)
    assert counted["cache_misses"] == 1
    num_prefix = together.answers[0].prompt_token_ids.tolist().index(-200) + 3420
    assert counted["prefix_tokens"] == together.generation.prefix_tokens == num_prefix

    before = grounded.metrics()
    apart = [client.ask(data, query, CHAT) for query in EIGHT]
    counted = growth(grounded, before)
    assert [one.answers[0].to_json() for one in apart] == [
        answer.to_json() for answer in together.answers
    ]
    assert (counted["frames_decoded"], counted["vision_passes"]) == (0, 0)
    assert (counted["cache_hits"], counted["prefix_tokens"]) == (8, 8 * num_prefix)
