"""Profile `vllm` through the real server: callers who leave, vLLM killed.

What was recorded is in tests/parity/test_vllm.py.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from groundserve import (
    AnswerOptions,
    Client,
    DeadlineExceededError,
    RequestCancelledError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.errors import EngineMismatchError, GroundserveError
from groundserve.scoring.gate import check_engines
from groundserve.serving import Supervisor
from python_backend.generate.vllm import VllmDecoder
from python_backend.generate.vllm_process import SOCKET_VARIABLE
from tests.support import answer_cases
from tests.support.engines import shared_engines
from tests.support.processes import is_alive
from tests.support.vllm_engines import WAIT_SECONDS, metric, serve_vllm
from tests.triton.answers import FREE_BOX, assert_same, growth, url
from tests.triton.serve import Server

CALLERS = 16
EIGHT = [f"Which frames show the number {number}?" for number in range(8)]
CHAT = AnswerOptions(task="chat", max_new_tokens=16)
LONG = AnswerOptions(task="chat", max_new_tokens=3000, temperature=2.0, seed=7)
MANY = [f"Question {number}? " * 40 for number in range(32)]


@pytest.fixture(scope="module")
def answering(tmp_path_factory) -> Iterator[Server]:
    folder, parts = tmp_path_factory.mktemp("vllm"), answer_cases.MODELS["stage3"]
    with serve_vllm(folder, answer_cases.CHECKPOINTS, parts) as running:
        yield running


@pytest.fixture
def beside(answering, monkeypatch) -> Path:
    """The engine directory, whose decoder this process asks of the same vLLM."""
    monkeypatch.setenv(SOCKET_VARIABLE, str(answering.triton.vllm.socket))
    return shared_engines(
        answer_cases.CHECKPOINTS, profile="vllm", parts=answer_cases.MODELS["stage3"]
    )


@pytest.fixture
def client(answering) -> Iterator[Client]:
    with Client(url(answering.triton), timeout_seconds=WAIT_SECONDS) as opened:
        yield opened


def wait_until(happened: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def is_idle(server: Server) -> bool:
    """Whether nothing runs or waits in vLLM."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return all(metric(server.triton.vllm.socket, name) == 0 for name in names)


def test_the_gate_behind_a_build_passes_a_good_one_and_no_other_decoder(beside):
    engine_dir, parts = beside, answer_cases.MODELS
    report = check_engines(engine_dir, answer_cases.CHECKPOINTS, parts=parts["stage3"])
    assert [check.output for check in report.checks] == ["features", "next_logits", "next_tokens"]
    # float32 against float32: far below the bound.
    assert all(check.error < 1e-4 for check in report.checks)
    with pytest.raises(EngineMismatchError, match="the decoder's engine differs from PyTorch"):
        check_engines(engine_dir, answer_cases.CHECKPOINTS, parts=parts["stage2"])


def test_embeddings_of_another_width_are_refused_and_end_nothing(answering, client, clips):
    decoder = VllmDecoder(str(answering.triton.vllm.socket))
    with pytest.raises(GroundserveError, match="hidden_size 63 does not match"):
        decoder.extend(np.zeros((8, 63), np.float32), decoder.begin(8), regime=0)
    assert client.ask(clips["carphone_pristine"], "When?", CHAT).answers[0].text


def test_eight_questions_cost_one_vision_pass_and_one_prefix(answering, client, clips):
    socket, hits = answering.triton.vllm.socket, "vllm:prefix_cache_hits_total"
    data = clips["carphone_pristine"].read_bytes() + FREE_BOX
    before, hits_before = answering.metrics(), metric(socket, hits)
    # Another part of the video than in other tests, so that none of it is in vLLM's cache.
    options = AnswerOptions(task="chat", max_new_tokens=4, clip_seconds=(0.5, 3.0))
    result = client.ask(data, EIGHT, options)
    counted = growth(answering, before)
    assert counted["vision_frames"] == 100
    assert counted["prefix_tokens"] == result.generation.prefix_tokens
    num_blocks = result.generation.prefix_tokens // 128
    assert metric(socket, hits) - hits_before >= 4 * 128 * num_blocks > 0


def test_callers_side_by_side_of_whom_some_leave(answering, client, clips):
    """The others' answers are those that each gets alone, and nothing is left running."""
    video = clips["carphone_pristine"]
    queries = [f"What is it, {number}?" for number in range(CALLERS)]
    alone = [client.ask(video, query, CHAT) for query in queries]
    leaving = [Client(url(answering.triton), timeout_seconds=WAIT_SECONDS) for _ in range(4)]
    with ThreadPoolExecutor(CALLERS + len(leaving)) as pool:
        gone = [pool.submit(one.ask, video, MANY, LONG) for one in leaving]
        wait_until(lambda: not is_idle(answering))
        asked = [pool.submit(client.ask, video, query, CHAT) for query in queries]
        for one in leaving:
            one.close()
        for one in gone:
            with pytest.raises(RequestCancelledError):
                one.result()
        for one, expected in zip(asked, alone, strict=True):
            assert_same(one.result(), expected)
    wait_until(lambda: is_idle(answering))


def test_a_short_question_is_not_kept_behind_a_long_request(answering, client, clips):
    video = clips["carphone_pristine"]
    alone = client.ask(video, "When?", CHAT)
    with (
        Client(url(answering.triton), timeout_seconds=WAIT_SECONDS) as leaving,
        ThreadPoolExecutor(1) as pool,
    ):
        long = pool.submit(leaving.ask, video, MANY, LONG)
        wait_until(lambda: not is_idle(answering))
        assert_same(client.ask(video, "When?", CHAT), alone)
        assert not long.done()
        leaving.close()
        with pytest.raises(RequestCancelledError):
            long.result()


def test_draws_behind_a_prompt_of_several_passes_repeat_whatever_else_is_asked(client, clips):
    """vLLM 0.32 itself ends at such a prompt; how many passes it takes depends on the others."""
    video = clips["carphone_pristine"]
    options = AnswerOptions(task="chat", max_new_tokens=12, temperature=2.0, top_p=0.9)
    together = client.ask(video, MANY[:6], options)
    alone = client.ask(video, MANY[3], replace(options, seed=together.generation.seed))
    assert together.answers[3].token_ids.tolist() == alone.answers[0].token_ids.tolist()
    assert len(set(alone.answers[0].token_ids.tolist())) > 1


def test_time_that_runs_out_ends_the_answers_there_and_in_vllm(answering, client, clips):
    with suppress(DeadlineExceededError):  # on a busy machine, before the first token
        result = client.ask(clips["carphone_pristine"], MANY, LONG, timeout_seconds=3)
        assert "deadline" in result.generation.stop_reasons
    wait_until(lambda: is_idle(answering))


@pytest.mark.parametrize("temperature", [0.005, 50.0])
def test_a_temperature_that_vllm_changes_or_refuses_is_refused_by_name(client, clips, temperature):
    options = AnswerOptions(task="chat", temperature=temperature)
    with pytest.raises(UnsupportedError, match="draw at a temperature from"):
        client.ask(clips["carphone_pristine"], "When?", options)


def test_a_decoder_that_hangs_is_noticed_while_its_api_answers(answering, client, clips):
    vllm = answering.triton.vllm
    decoder = psutil.Process(vllm.pid).children(recursive=True)[-1]
    wait_until(vllm.is_ready)
    decoder.suspend()
    try:
        wait_until(lambda: decoder.status() == psutil.STATUS_STOPPED)
        assert metric(vllm.socket, "vllm:num_requests_running") == 0  # its API answers
        assert not vllm.is_ready()
        assert not vllm.is_ready()
    finally:
        decoder.resume()
    wait_until(vllm.is_ready)
    assert client.ask(clips["carphone_pristine"], "When?", CHAT).answers[0].text


@pytest.mark.parametrize("victim", ["server", "worker"])
def test_vllm_killed_is_a_typed_error_until_it_is_back(answering, client, clips, victim):
    """Its server ends with status 0 where its worker was killed."""
    video, triton = clips["carphone_pristine"], answering.triton
    supervisor, pid = Supervisor(triton), triton.pid
    expected = client.ask(video, EIGHT[:1], CHAT)
    root = psutil.Process(triton.vllm.pid)
    family = [root, *root.children(recursive=True)]
    with (
        Client(url(triton), timeout_seconds=WAIT_SECONDS) as waiting,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(waiting.ask, video, MANY, LONG)
        wait_until(lambda: not is_idle(answering))
        (root if victim == "server" else family[-1]).send_signal(signal.SIGKILL)
        with pytest.raises(UnavailableError):
            asked.result()
    wait_until(lambda: not triton.vllm.is_running())
    with pytest.raises(UnavailableError, match="vLLM does not answer"):
        client.ask(video, EIGHT[:1], CHAT)
    supervisor.check()
    assert not supervisor.board.is_ready
    assert not [process for process in family if is_alive(process)]

    def is_back() -> bool:
        supervisor.check()
        return supervisor.board.is_ready

    wait_until(is_back)
    assert triton.pid == pid
    assert supervisor.board.counters["vllm_restarts"] == 1
    assert_same(client.ask(video, EIGHT[:1], CHAT), expected)
