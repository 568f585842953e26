"""Each kind of process killed once under load: the service comes back and leaves nothing."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from groundserve import AnswerOptions, Client, UnavailableError
from groundserve.serving.run_folder import remove_dead
from tests.triton.program import WAIT_SECONDS, Serve, serving

KILLED = {
    "model_repository/grounding/": ("stub_died", "model_reloaded"),
    # Front alone answers after `execute`: nobody but an ended server tells its callers.
    "model_repository/front/": ("stub_died", "server_restarted"),
    "groundserve.media._worker": (),
    "bin/tritonserver": ("server_died", "server_restarted"),
}
"""A word of the process's command line -> what is logged of its death and its successor."""


@pytest.fixture
def serve(engine_dirs, tmp_path):
    started = Serve(engine_dirs["cpu"], tmp_path)
    yield started
    started.kill()


def test_each_kind_of_process_killed_once(serve, clips):
    """Callers see UnavailableError and nothing else, and are answered again."""
    serve.wait_until_ready()
    video = clips["carphone_pristine"]
    is_over = threading.Event()

    def client(_):
        while not is_over.is_set():
            serve.score_until_answered(video)

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, number) for number in range(3)]
        try:
            for name, events in KILLED.items():
                # Also starts a worker, where the death before has left none.
                serve.score_until_answered(video)
                num_before = len(serve.events())
                serve.family(name)[0].kill()
                for event in events:
                    serve.wait_for(event, after=num_before)
        finally:
            is_over.set()
        for one in clients:
            one.result()
    serve.score_until_answered(video)
    words = serve.family("bin/tritonserver")[0].cmdline()
    secret = next(word for word in words if "http-restricted-api" in word).rpartition("=")[2]
    serve.stop()
    assert len(secret) == 64
    assert secret.encode() not in serve.log_file.read_bytes() + serve.errors.read_bytes()
    logged = [event["event"] for event in serve.events()]
    assert logged == [event for events in KILLED.values() for event in events]


def test_front_killed_amid_a_stream(answer_engines, clips, tmp_path):
    """Triton tells nobody of the calls that it had taken up; a new process alone is no help."""
    endless = AnswerOptions(task="chat", max_new_tokens=3500, temperature=50.0, seed=7)
    with serving(answer_engines("stage3"), tmp_path) as serve:
        (front,) = serve.family("model_repository/front_stream")
        with (
            Client(serve.addresses["grpc"], retries=0, timeout_seconds=WAIT_SECONDS) as client,
            pytest.raises(UnavailableError, match="broke: the server may have ended"),
        ):
            client.ask(
                clips["carphone_pristine"],
                [f"Question {number}?" for number in range(32)],
                endless,
                on_text=lambda number, text: front.kill(),
            )
        serve.wait_for("server_restarted")


def test_sigterm_while_loading(serve):
    while not serve.family("triton_python_backend_stub"):
        time.sleep(0.01)
    serve.stop()


def test_sigterm_with_stubs_stopped(serve):
    serve.wait_until_ready()
    for stub in serve.family("triton_python_backend_stub"):
        stub.suspend()
    serve.stop()


def test_sigterm_while_a_model_is_loaded_again(serve):
    serve.wait_until_ready()
    serve.family("/grounding/")[0].kill()
    while b"stub_died" not in serve.errors.read_bytes():
        time.sleep(0.01)
    serve.stop()


@pytest.fixture
def serve_copy(engine_dirs, tmp_path):
    """A service on an engine directory of its own, which is `tmp_path / "engines"`."""
    started = Serve(shutil.copytree(engine_dirs["cpu"], tmp_path / "engines"), tmp_path)
    yield started
    started.kill()


def test_model_that_cannot_be_loaded_again_does_not_end_the_service(serve_copy, clips, tmp_path):
    serve_copy.wait_until_ready()
    graph = tmp_path / "engines" / "grounding.onnx"
    graph.rename(tmp_path / "away")
    serve_copy.family("/grounding/")[0].kill()
    serve_copy.wait_for("restart_failed")
    assert serve_copy.program.poll() is None
    (tmp_path / "away").rename(graph)
    serve_copy.score_until_answered(clips["carphone_pristine"])
    serve_copy.wait_for("server_restarted")
    events = [event["event"] for event in serve_copy.events()]
    assert events[:3] == ["stub_died", "reload_failed", "restart_failed"]
    serve_copy.stop()


def test_sigterm_while_backing_off(serve):
    serve.wait_until_ready()
    seconds = 0.0
    while seconds < 2.0:
        num_before = len(serve.events())
        # The youngest: an older one may be of the model that was unloaded, and about to end anyway.
        max(serve.family("/grounding/"), key=psutil.Process.create_time).kill()
        if num_before:
            seconds = serve.wait_for("backing_off", after=num_before)["seconds"]
        if seconds < 2.0:
            serve.wait_for("model_reloaded", after=num_before)
    serve.stop()
    assert serve.events()[-1]["event"] == "backing_off"


def test_killed_keeper_takes_all_along_and_the_next_start_removes_what_is_left(serve):
    serve.wait_until_ready()
    family = serve.family()
    pattern = f"groundserve_{serve.program.pid}_*"
    assert len(list(Path("/dev/shm").glob(pattern))) > len(
        serve.family("triton_python_backend_stub")
    )
    serve.program.kill()
    serve.program.wait()
    _, alive = psutil.wait_procs(family, 10)
    assert not alive
    remove_dead()
    assert not list(Path("/dev/shm").glob(pattern))


def test_server_that_holds_too_much_memory_is_started_again(engine_dirs, tmp_path):
    """As long as it does: here from the first byte on."""
    with serving(engine_dirs["cpu"], tmp_path, options=["--max-server-memory", "1"]) as serve:
        for _ in range(2):
            num_before = len(serve.events())
            serve.wait_for("server_memory_exceeded", after=num_before)
            serve.wait_for("server_restarted", after=num_before)
