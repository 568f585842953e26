"""What asks vLLM, against a server of a few lines in its place."""

from __future__ import annotations

import base64
import http.server
import io
import json
import socketserver
import threading
import time

import numpy as np
import pytest
import torch

from groundserve.errors import (
    DeadlineExceededError,
    GroundserveError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.generate.vllm import MAX_TOGETHER, VllmDecoder

ROWS = np.random.default_rng(3).standard_normal((5, 8)).astype(np.float32)
SHARED = ROWS[:3]
END = frozenset({2})


def event(token_id, logprob=-0.5):
    logprobs = {"token_logprobs": [logprob]}
    return {"choices": [{"token_ids": [token_id], "logprobs": logprobs, "finish_reason": None}]}


class Server(socketserver.ThreadingUnixStreamServer):
    """Says `script(prompt)`, (seconds to wait, event) each, and counts who left before the end."""

    daemon_threads = True

    def __init__(self, path, script):
        super().__init__(str(path), Handler)
        self.script = script
        self.asked = []
        self.num_running = self.most_running = self.num_left = 0
        self.lock = threading.Lock()

    def change(self, number):
        with self.lock:
            self.num_running += number
            self.most_running = max(self.most_running, self.num_running)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        file = io.BytesIO(base64.b64decode(asked["prompt_embeds"]))
        rows = torch.load(file, weights_only=True).numpy()
        self.server.asked.append((asked, rows))
        self.server.change(1)
        try:
            self.answer(self.server.script(rows))
        except OSError:
            self.server.num_left += 1
        finally:
            self.server.change(-1)

    def answer(self, script):
        if isinstance(script, int):
            self.send_response(script)
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "no such width"}}')
            return
        self.send_response(200)
        self.end_headers()
        for seconds, said in script:
            time.sleep(seconds)
            self.wfile.write(f"data: {said if said == '[DONE]' else json.dumps(said)}\n\n".encode())
            self.wfile.flush()

    def address_string(self):
        return "somebody"

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(script):
        server = Server(tmp_path / "socket", script)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def complete(tmp_path):
    def ask(num_questions=1, seconds=30.0, is_cancelled=None, shared=SHARED, **options):
        suffixes = [ROWS[3:] + number for number in range(num_questions)]
        return VllmDecoder(str(tmp_path / "socket")).complete(
            shared,
            suffixes,
            AnswerOptions(max_new_tokens=3),
            seed=None,
            end_ids=END,
            deadline=Deadline.after(seconds, is_cancelled=is_cancelled),
            **options,
        )

    return ask


def said(*events):
    return lambda rows: [(0, one) for one in (*events, "[DONE]")]


def test_embeddings_arrive_to_the_bit_and_tokens_come_back(serve, complete):
    server = serve(said(event(7), event(2)))
    (answer,) = complete()
    assert (answer.token_ids.tolist(), answer.stop_reason) == ([7, 2], "eos")
    ((asked, rows),) = server.asked
    assert np.array_equal(rows, ROWS)
    assert (asked["max_tokens"], asked["stop_token_ids"], asked["temperature"]) == (3, [2], 0.0)


def test_questions_go_together_and_are_told_one_after_another(serve, complete):
    def script(rows):
        number = round(float(rows[-1, 0] - ROWS[-1, 0]))
        # The first is the slowest.
        return [(0.2 if number == 0 else 0.02, event(10 * number + i)) for i in (3, 4, 5)] + [
            (0, "[DONE]")
        ]

    server, told = serve(script), []
    answers = complete(6, on_token=lambda *one: told.append(one))
    assert [one.token_ids.tolist() for one in answers] == [
        [10 * number + i for i in (3, 4, 5)] for number in range(6)
    ]
    assert told == [(number, 10 * number + i) for number in range(6) for i in (3, 4, 5)]
    assert all(one.stop_reason == "length" for one in answers)
    assert server.most_running == MAX_TOGETHER


@pytest.mark.parametrize("logprob", [float("nan"), None])
def test_logits_that_are_not_finite_are_no_answer(serve, complete, logprob):
    serve(said(event(7), event(0, logprob)))
    with pytest.raises(GroundserveError, match="logits that are not finite"):
        complete()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_not_sent(serve, complete, value):
    server = serve(said(event(2)))
    rows = SHARED.copy()
    rows[1, 1] = value
    with pytest.raises(GroundserveError, match="embeddings of a prompt are not finite"):
        complete(shared=rows)
    assert not server.asked


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (lambda rows: 400, GroundserveError, "status 400: no such width"),
        (lambda rows: 503, UnavailableError, "status 503"),
        (lambda rows: [(0, event(7))], UnavailableError, "in the middle of an answer"),
        (said(event(7), {"error": {"message": "dead"}}), UnavailableError, "an answer: dead"),
    ],
)
def test_what_goes_wrong_at_vllm_is_a_typed_error(serve, complete, script, error, message):
    serve(script)
    with pytest.raises(error, match=message):
        complete()


def test_nobody_listens(complete):
    with pytest.raises(UnavailableError, match="vLLM does not answer"):
        complete()


def slowly(rows):
    return [(0.05, event(number % 50 + 3)) for number in range(400)]


def test_who_leaves_ends_all_that_runs(serve, complete):
    server = serve(slowly)
    gone = threading.Event()
    threading.Timer(0.5, gone.set).start()
    with pytest.raises(RequestCancelledError):
        complete(8, is_cancelled=gone.is_set)
    until = time.monotonic() + 10
    while server.num_running and time.monotonic() < until:
        time.sleep(0.05)
    assert server.num_running == 0
    assert server.num_left == len(server.asked) == MAX_TOGETHER


def test_time_that_runs_out_ends_answers_where_they_are(serve, complete):
    serve(slowly)
    answers = complete(8, seconds=1.0)
    assert {one.stop_reason for one in answers} == {"deadline"}
    assert len(answers) == 8
    begun, rest = answers[:MAX_TOGETHER], answers[MAX_TOGETHER:]
    assert all(len(one.token_ids) > 0 for one in begun)
    assert all(len(one.token_ids) == 0 for one in rest)


def test_time_that_runs_out_before_the_first_token_is_an_error(serve, complete):
    serve(lambda rows: [(5, event(3))])
    with pytest.raises(DeadlineExceededError):
        complete(seconds=0.5)
