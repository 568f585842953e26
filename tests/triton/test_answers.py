"""A family that answers in text through the real server: what the reference recorded, counted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from groundserve import (
    AnswerOptions,
    AsyncClient,
    Client,
    RequestCancelledError,
    UnsupportedError,
)
from groundserve.answers import AnswerResult, GenerationInfo
from groundserve.serving import TritonServer
from python_backend.pipeline import Pipeline
from tests.support.answer_cases import CASES, MODELS
from tests.triton.answers import FREE_BOX, assert_same, growth, url
from tests.triton.protocol import Arrays, Protocol, texts, upload
from tests.triton.serve import Server

OTHERS = [model for model in MODELS if model != "stage3"]
EIGHT = [f"Which frames show the number {number}?" for number in range(8)]
CHAT = AnswerOptions(task="chat", max_new_tokens=16)
LONG = AnswerOptions(task="chat", max_new_tokens=3500, temperature=50.0, seed=7)
"""Drawn from nearly even odds: an end token is one of 640. 32 answers have some 20,000."""
NUM_BEFORE = CASES[0].input_ids.index(-200)
"""Tokens of a prompt before the video, which has 100."""
NUM_IN_FRONT = NUM_BEFORE + 100
MANY = [f"Question {number}?" for number in range(32)]
WAIT_SECONDS = 60.0


@pytest.fixture
def client(answering) -> Iterator[Client]:
    with Client(url(answering.triton)) as opened:
        yield opened


@pytest.fixture(scope="module")
def pipeline(answer_engines) -> Iterator[Pipeline]:
    with Pipeline.open(answer_engines("stage3")) as opened:
        yield opened


@pytest.fixture(scope="module")
def video(clips) -> Path:
    return clips["carphone_pristine"]


def check_cases(client: Client, model: str, clips) -> list[AnswerResult]:
    results = []
    for case in (case for case in CASES if case.model == model):
        result = client.ask(case.path(clips), case.query, case.options)
        (answer,) = result.answers
        assert result.frame_indices.tolist() == case.frame_indices, case.name
        assert answer.prompt_token_ids.tolist() == case.input_ids, case.name
        assert answer.token_ids.tolist() == case.token_ids, case.name
        assert answer.text == case.text, case.name
        assert answer.stop_reason == ("eos" if case.stopped_by_eos else "length"), case.name
        results.append(result)
    return results


def test_recorded_cases(client, pipeline, clips):
    results = check_cases(client, "stage3", clips)
    cases = [case for case in CASES if case.model == "stage3"]
    assert len(results) == 6
    for case, result in zip(cases, results, strict=True):
        assert_same(result, pipeline.ask(case.path(clips), case.query, case.options))


@pytest.mark.parametrize("model", OTHERS)
def test_recorded_cases_of_other_adapters(answer_engines, clips, tmp_path, model):
    server = TritonServer(
        answer_engines(model), http_port=0, grpc_port=0, metrics_port=0, log_file=tmp_path / "log"
    )
    with server, Client(url(server)) as client:
        assert len(check_cases(client, model, clips)) == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_one_call_of_the_ensemble_gives_what_the_client_gets(answering, client, video, protocol):
    options = AnswerOptions(task="captions", max_new_tokens=8, clip_seconds=(0.5, 99.0))
    expected = client.ask(video, options=options)
    answer = ask_ensemble(answering, video, "", options=options, protocol=protocol)
    info = json.loads(answer["INFO"][0])
    generation = GenerationInfo.from_json(answer["INFO"][0])
    assert generation == expected.generation
    assert generation.time_range_seconds == (0.5, expected.info.duration_seconds)
    assert info["engine"] == expected.info.engine
    np.testing.assert_array_equal(answer["FRAME_INDICES"], expected.frame_indices)
    np.testing.assert_array_equal(answer["PTS_SECONDS"], expected.pts_seconds)
    (one,) = expected.answers
    assert answer["ANSWER"].tolist() == [one.text.encode()]
    for name, ids in (("TOKEN", one.token_ids), ("PROMPT", one.prompt_token_ids)):
        all_ids = answer["TOKEN_IDS" if name == "TOKEN" else "PROMPT_TOKEN_IDS"]
        np.testing.assert_array_equal(all_ids, ids, strict=True)
        assert answer[f"{name}_OFFSETS"].tolist() == [0, len(ids)]
    # The tiny model may say no times: the tensors are there, with a shape.
    num_moments = len(one.moments)
    assert answer["MOMENTS"].shape == (num_moments, 3)
    assert answer["MOMENT_TEXTS"].shape == (num_moments,)
    assert answer["MOMENT_OFFSETS"].tolist() == [0, num_moments]


def ask_ensemble(
    server: Server,
    video: Path,
    *queries: str,
    options: AnswerOptions,
    protocol: str = "grpc",
    request_id: str = "",
) -> Arrays:
    address = {"grpc": server.triton.grpc_address, "http": server.triton.http_address}[protocol]
    opened = Protocol(protocol, address)
    inputs = {
        "VIDEO": upload(video.read_bytes()),
        "QUERY": texts(*queries),
        "OPTIONS": texts(options.to_json()),
    }
    try:
        return opened.infer("vtimellm", inputs, request_id=request_id)
    finally:
        opened.client.close()


def test_eight_questions_cost_one_decode_one_vision_pass_and_one_prefix(answering, client, video):
    data = video.read_bytes() + FREE_BOX
    before = answering.metrics()
    together = client.ask(data, EIGHT, CHAT)
    counted = growth(answering, before)
    generation = together.generation
    num_frames = len(np.unique(together.frame_indices))
    assert counted["frames_decoded"] == num_frames
    assert counted["vision_passes"] == -(-num_frames // 64)
    assert counted["vision_frames"] == 100
    assert counted["cache_misses"] == 1
    assert counted["prefix_tokens"] == generation.prefix_tokens == NUM_BEFORE + 100
    num_behind = [len(answer.prompt_token_ids) - NUM_BEFORE - 1 for answer in together.answers]
    num_prompt = sum(num_behind)
    assert counted["prompt_tokens"] == generation.prompt_tokens == num_prompt
    num_generated = sum(len(answer.token_ids) for answer in together.answers)
    assert counted["generated_tokens"] == generation.generated_tokens == num_generated

    before = answering.metrics()
    apart = [client.ask(data, query, CHAT) for query in EIGHT]
    counted = growth(answering, before)
    assert [one.answers[0].to_json() for one in apart] == [
        answer.to_json() for answer in together.answers
    ]
    # A hit skips decode and vision; the prefix is computed for each request.
    assert all(one.info.cache_hit for one in apart)
    assert (counted["frames_decoded"], counted["vision_passes"]) == (0, 0)
    assert counted["cache_hits"] == 8
    assert counted["prefix_tokens"] == 8 * (NUM_BEFORE + 100)
    assert counted["prompt_tokens"] == num_prompt


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_text_is_told_as_it_comes(answering, client, video, kind):
    told: list[tuple[int, str]] = []

    def on_text(number: int, text: str) -> None:
        told.append((number, text))

    async def ask() -> AnswerResult:
        async with AsyncClient(url(answering.triton)) as opened:
            return await opened.ask(video, EIGHT, CHAT, on_text=on_text)

    if kind is AsyncClient:
        result = asyncio.run(ask())
    else:
        result = client.ask(video, EIGHT, CHAT, on_text=on_text)
    assert_same(result, client.ask(video, EIGHT, CHAT))
    numbers = [number for number, _ in told]
    assert numbers == sorted(numbers)
    assert len(told) > len(EIGHT)
    for number, answer in enumerate(result.answers):
        assert answer.text.startswith("".join(text for at, text in told if at == number))


def test_what_on_text_raises_ends_the_generation(answering, client, video):
    before = answering.metrics()

    def on_text(number: int, text: str) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        client.ask(video, MANY, LONG, on_text=on_text)
    cancelled = 'errors_total{class="RequestCancelledError"}'
    wait_until(lambda: answering.growth(before)[cancelled] == 1)


def test_streams_that_ended_leave_no_thread_with_their_request(answering, client, video):
    def told(number: int, text: str) -> None:
        raise LookupError("my own")

    client.ask(video, "When?", CHAT)
    before = set(threading.enumerate())
    client.ask(video, "When?", CHAT, on_text=lambda number, text: None)
    with pytest.raises(LookupError, match="my own"):
        client.ask(video, MANY, LONG, on_text=told)
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_draws_follow_from_the_seed_which_is_told(client, video):
    options = AnswerOptions(task="chat", max_new_tokens=8, temperature=2.0)
    first = client.ask(video, "When?", options)
    assert first.generation.seed is not None
    again = AnswerOptions(
        task="chat", max_new_tokens=8, temperature=2.0, seed=first.generation.seed
    )
    assert_same(client.ask(video, "When?", again), first)


def test_time_that_runs_out_between_tokens_ends_the_answers_there(answering, client, video):
    client.ask(video, "When?", CHAT)  # from here on the features are in the cache
    before = answering.metrics()
    result = client.ask(video, MANY, LONG, timeout_seconds=2)
    assert result.generation.stop_reasons[-1] == "deadline"
    assert result.answers[0].token_ids.size > 0
    assert result.answers[-1].token_ids.size == 0
    assert result.answers[-1].text == ""
    num_tokens = sum(answer.token_ids.size for answer in result.answers)
    assert growth(answering, before)["generated_tokens"] == num_tokens
    assert result.info.timing_ms["generate"] < 2000


@pytest.mark.parametrize("on_text", [None, lambda number, text: None], ids=["whole", "pieces"])
def test_closing_the_client_ends_the_generation(answering, video, on_text):
    before = answering.metrics()
    leaving = Client(url(answering.triton))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(leaving.ask, video, MANY, LONG, on_text=on_text)
        wait_until(lambda: growth(answering, before)["generated_tokens"] > 0)
        leaving.close()
        with pytest.raises(RequestCancelledError, match="its client was closed"):
            asked.result()
    cancelled = 'errors_total{class="RequestCancelledError"}'
    wait_until(lambda: answering.growth(before)[cancelled] == 1)


ASK = """
import sys
from groundserve import AnswerOptions, Client
options = AnswerOptions(task="chat", max_new_tokens=3500, temperature=50.0, seed=7)
Client(sys.argv[1]).ask(sys.argv[2], [f"Question {number}?" for number in range(32)], options)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_end_of_the_callers_process_ends_the_generation(answering, video, how):
    before = answering.metrics()
    command = [sys.executable, "-c", ASK, url(answering.triton), video]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: growth(answering, before)["generated_tokens"] > 0)
        process.send_signal(how)
    cancelled = 'errors_total{class="RequestCancelledError"}'
    wait_until(lambda: answering.growth(before)[cancelled] == 1)


@contextmanager
def long_ones(server: Server, video: Path) -> Iterator[list[Future]]:
    """Requests of 32 long questions, one a process, until their caller leaves."""
    number = server.triton.num_stubs["generation"]
    leaving = Client(url(server.triton))
    with ThreadPoolExecutor(number) as pool:
        try:
            leaving.ask(video, "When?", CHAT)  # from here on the features are in the cache
            before = server.metrics()
            asked = [pool.submit(leaving.ask, video, MANY, LONG) for _ in range(number)]
            wait_until(lambda: growth(server, before)["prefix_tokens"] == number * NUM_IN_FRONT)
            yield asked
        finally:
            leaving.close()


def test_others_are_answered_between_two_questions_of_a_long_request(answering, client, video):
    alone = client.ask(video, EIGHT[:2], CHAT)
    with long_ones(answering, video) as asked:
        assert_same(client.ask(video, EIGHT[:2], CHAT), alone)
        assert not any(one.done() for one in asked)


def test_callers_that_left_keep_nobody_out(answering, client, video):
    cancelled = 'errors_total{class="RequestCancelledError"}'

    async def come_and_go() -> None:
        async with AsyncClient(url(answering.triton)) as opened:
            tasks = [asyncio.create_task(opened.ask(video, MANY, LONG)) for _ in range(30)]
            # `front` works on as many as it may.
            while growth(answering, before)["cache_hits"] < 14:
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with long_ones(answering, video) as asked:
        before = answering.metrics()
        asyncio.run(come_and_go())
        # Of those that had not come to `front` yet, Triton itself lets some go.
        wait_until(lambda: answering.growth(before)[cancelled] >= 14)
        client.ask(video, "When?", CHAT)
        assert not any(one.done() for one in asked)


def wait_until(happened) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_each_head_names_the_call_of_the_other_before_a_video_is_sent(client, served):
    """What is no video would be refused as such as soon as it were looked at."""
    with pytest.raises(UnsupportedError) as caught:
        client.score(b"no video", "When?")
    assert str(caught.value) == "the family vtimellm answers in text: use ask, not score"
    with Client(url(served.triton)) as scoring, pytest.raises(UnsupportedError) as caught:
        scoring.ask(b"no video", "When?")
    assert str(caught.value) == "the family videoitg scores frames: use score, not ask"


def test_log_and_metrics_tell_of_an_answer(answering, client, video):
    before = answering.metrics()
    result = client.ask(video, EIGHT, CHAT)
    (line,) = [
        line
        for line in answering.wait_for_lines(result.request_id)
        if line["request_id"] == result.request_id
    ]
    assert line["outcome"] == "ok"
    assert line["num_queries"] == 8
    for name in ("prefix_tokens", "prompt_tokens", "generated_tokens"):
        assert line[name] == getattr(result.generation, name)
    assert "generate" in line["timing_ms"]
    assert answering.growth(before)['stage_seconds_count{stage="generate"}'] == 1
    assert {answering.first_metrics[f"{name}_total"] for name in ("prefix_tokens",)} == {0}
