"""A family that is told the time of each frame, through the real server: recorded and counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from groundserve import AnswerOptions, Client
from groundserve.batch.engines import EngineSource
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.support.vtgllm_cases import CASES, CONFIGS, RELEASED
from tests.triton.answers import FREE_BOX, assert_same, growth, url

EIGHT = [f"When is the number {number} shown?" for number in range(8)]
CHAT = AnswerOptions(task="chat", max_new_tokens=4)


@pytest.fixture(scope="module")
def client(timed) -> Iterator[Client]:
    with Client(url(timed.triton)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(vtgllm_engines) -> Iterator[Pipeline]:
    with Pipeline.open(vtgllm_engines(RELEASED)) as opened:
        yield opened


def check(case, result) -> None:
    (answer,) = result.answers
    assert result.frame_indices.tolist() == case.frame_indices
    assert answer.prompt_token_ids.tolist() == case.input_ids
    assert answer.token_ids.tolist() == case.token_ids
    assert answer.text == case.text
    assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length")


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.config == RELEASED], ids=lambda case: case.name
)
def test_recorded_cases(client, pipeline, clips, case):
    result = client.ask(case.path(clips), case.query, case.options)
    check(case, result)
    assert_same(result, pipeline.ask(case.path(clips), case.query, case.options))


@pytest.mark.parametrize("task", ["highlights", "summary"])
def test_a_batch_learns_of_a_server_whose_engines_it_has(timed, task):
    """Whether the task takes a question, it knows only then."""
    source = EngineSource(servers=(url(timed.triton),), head="text")
    assert source.identity(AnswerOptions(task=task))["family"] == "vtgllm"


@pytest.mark.parametrize("config", [config for config in CONFIGS if config != RELEASED])
def test_recorded_cases_of_other_configurations(vtgllm_engines, clips, tmp_path, config):
    """With the Q-Former's text, the vision stage has an input that differs from unit to unit."""
    server = TritonServer(
        vtgllm_engines(config), http_port=0, grpc_port=0, metrics_port=0, log_file=tmp_path / "log"
    )
    (case,) = [case for case in CASES if case.config == config]
    with server, Client(url(server)) as client:
        check(case, client.ask(case.path(clips), case.query, case.options))


def test_eight_questions_cost_one_decode_one_vision_pass_and_one_prefix(timed, client, clips):
    data = clips["carphone_pristine"].read_bytes() + FREE_BOX  # which no cache knows
    before = timed.metrics()
    together = client.ask(data, EIGHT, CHAT)
    counted = growth(timed, before)
    assert (counted["frames_decoded"], counted["vision_frames"]) == (96, 96)
    assert (counted["vision_passes"], counted["cache_misses"]) == (2, 1)  # of 64 frames at most
    ids = together.answers[0].prompt_token_ids.tolist()
    num_prefix = max(place for place, one in enumerate(ids) if one > 600) + 256
    assert counted["prefix_tokens"] == together.generation.prefix_tokens == num_prefix

    before = timed.metrics()
    apart = [client.ask(data, query, CHAT) for query in EIGHT]
    counted = growth(timed, before)
    assert [one.answers[0].to_json() for one in apart] == [
        answer.to_json() for answer in together.answers
    ]
    assert (counted["frames_decoded"], counted["vision_passes"]) == (0, 0)
    assert (counted["cache_hits"], counted["prefix_tokens"]) == (8, 8 * num_prefix)
