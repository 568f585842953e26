"""Processes that stand still on the real server: each is killed and brought back."""

from __future__ import annotations

import json
import shutil

import pytest

from groundserve.manifest import hash_tree
from tests.triton.program import Serve
from tests.triton.protocol import Protocol, RejectedError, texts, upload

# PyDLL keeps the interpreter's lock: no Python code runs, while Triton's own threads go on.
HANGING_MODEL = """
import ctypes
from python_backend.triton.frame_selector import TritonPythonModel as _Model

class TritonPythonModel(_Model):
    def execute(self, requests):
        if requests[0].request_id() == "hang":
            ctypes.PyDLL(None).sleep(600)
        return super().execute(requests)
"""


@pytest.fixture(scope="module")
def serve(service) -> Serve:
    return service


def test_stopped_stub_is_killed_and_its_model_loaded_again(serve, clips):
    serve.score_until_answered(clips["carphone_pristine"])
    num_before = len(serve.events())
    stub = serve.family("/video_decode/")[0]
    stub.suspend()
    stalled = serve.wait_for("stub_stalled", after=num_before)
    assert (stalled["model"], stalled["pid"]) == ("video_decode", stub.pid)
    assert stalled["reason"] == "it was stopped by a signal"
    serve.wait_for("model_reloaded", after=num_before)
    serve.score_until_answered(clips["carphone_pristine"])


def test_stopped_server_is_killed_and_started_again(serve, clips):
    num_before = len(serve.events())
    serve.family("bin/tritonserver")[0].suspend()
    serve.wait_for("server_stalled", after=num_before)
    serve.wait_for("server_restarted", after=num_before)
    serve.score_until_answered(clips["carphone_pristine"])


def test_stopped_media_worker_is_killed_and_replaced(serve, clips):
    serve.score_until_answered(clips["carphone_pristine"])
    num_before = len(serve.events())
    serve.family("groundserve.media._worker")[0].suspend()
    serve.wait_for("worker_stalled", after=num_before)
    serve.score_until_answered(clips["carphone_pristine"])
    assert [event["event"] for event in serve.events()[num_before:]] == ["worker_stalled"]


def test_stub_that_runs_no_python_code_is_killed(engine_dirs, tmp_path, clips):
    engines = shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")
    (engines / "model_repository" / "frame_selector" / "1" / "model.py").write_text(HANGING_MODEL)
    manifest = json.loads((engines / "manifest.json").read_text())
    (engines / "manifest.json").unlink()
    (engines / "manifest.json").write_text(json.dumps({**manifest, "files": hash_tree(engines)}))
    serve = Serve(engines, tmp_path)
    try:
        serve.wait_until_ready()
        protocol = Protocol("grpc", serve.addresses["grpc"].removeprefix("grpc://"))
        inputs = {"VIDEO": upload(clips["carphone_pristine"].read_bytes()), "QUERY": texts("When?")}
        with pytest.raises(RejectedError):
            protocol.infer("videoitg", inputs, request_id="hang")
        protocol.client.close()
        stalled = serve.wait_for("stub_stalled")
        assert stalled["model"] == "frame_selector"
        assert stalled["reason"] == "its heartbeat was silent for 5 s"
        serve.wait_for("model_reloaded")
        serve.score_until_answered(clips["carphone_pristine"])
        serve.stop()
    finally:
        serve.kill()
