"""Starting and stopping: nothing is left, and what cannot work is refused with its reason."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tritonclient.utils import InferenceServerException

from groundserve.errors import EngineMismatchError, InvalidRequestError, UnavailableError
from groundserve.serving import TritonServer
from groundserve.serving.installation import find_installation, server_environment
from groundserve.weights.hashes import file_sha256
from tests.support.processes import is_alive
from tests.triton.protocol import Protocol, texts, upload

# Signals reach the main thread of a program of its own, as they do `groundserve serve`.
SERVE = """
import sys
from contextlib import suppress
from groundserve.serving import Supervisor, TritonServer, sigterm_as_interrupt
with sigterm_as_interrupt(), suppress(KeyboardInterrupt):
    with TritonServer(sys.argv[1], grpc_port=0, metrics_port=0) as server:
        supervisor = Supervisor(server)
        print(server.pid, flush=True)
        supervisor.run()
print("stopped", flush=True)
"""


def shared_memory_files(pid: int) -> set[str]:
    """Files of the servers that a process started."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(f"groundserve_{pid}_")}


def score_once(address: str, video: Path) -> None:
    protocol = Protocol("grpc", address)
    inputs = {"VIDEO": upload(video.read_bytes()), "QUERY": texts("When?")}
    assert protocol.infer("videoitg", inputs)["FRAME_LOGITS"].shape[0] == 1
    protocol.client.close()


def new_server(engine_dir: Path, **kwargs) -> TritonServer:
    return TritonServer(engine_dir, grpc_port=0, metrics_port=0, **kwargs)


@pytest.fixture
def engine_copy(engine_dirs, tmp_path) -> Path:
    return shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")


def test_ctrl_c_stops_the_server_in_order(engine_dirs):
    command = [sys.executable, "-c", SERVE, str(engine_dirs["cpu"])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        server = psutil.Process(int(program.stdout.readline()))
        processes = [server, *server.children(recursive=True)]
        listening = {c.laddr.port for c in server.net_connections("tcp") if c.status == "LISTEN"}
        assert len(listening) == 2  # gRPC and metrics: HTTP is opened only when asked for
        program.send_signal(signal.SIGINT)
        assert program.stdout.read() == "stopped\n"
    assert program.returncode == 0
    assert not [process for process in processes if is_alive(process)]
    assert not shared_memory_files(program.pid)


def test_apis_that_change_the_server_need_a_secret(grpc, http):
    for protocol in (grpc, http):
        for call in (
            protocol.client.get_model_repository_index,
            protocol.client.get_system_shared_memory_status,
            protocol.client.get_log_settings,
            protocol.client.get_trace_settings,
            lambda client=protocol.client: client.unload_model("videoitg"),
        ):
            with pytest.raises(InferenceServerException, match="is restricted"):
                call()
    assert grpc.client.is_model_ready("videoitg")


@pytest.mark.parametrize("model", ["videoitg", "grounding"])
def test_configurations_can_be_read_and_show_no_path(grpc, http, model, engine_dirs):
    shown = http.client.get_model_config(model)
    assert shown["name"] == model
    assert str(engine_dirs["cpu"]) not in json.dumps(shown)
    assert all("/" not in value["string_value"] for value in shown["parameters"].values())
    assert grpc.client.get_model_config(model).config.name == model


def test_listens_on_loopback_only(server):
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(server.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_taken_port_is_named(engine_dirs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = TritonServer(engine_dirs["cpu"], grpc_port=port, metrics_port=0)
        holder = rf"cannot listen on 127.0.0.1:{port}: .* by process {os.getpid()} \("
        with pytest.raises(UnavailableError, match=holder):
            server.start()


def test_other_addresses_are_refused_with_the_wheels_server(engine_dirs):
    with pytest.raises(InvalidRequestError, match=r"must be a loopback address, got 0\.0\.0\.0"):
        new_server(engine_dirs["cpu"], host="0.0.0.0").start()


def test_small_shared_memory_is_refused_with_the_fix(engine_dirs, monkeypatch):
    monkeypatch.setenv("GROUNDSERVE_MAX_UPLOAD_BYTES", str(2**49))
    with pytest.raises(UnavailableError, match=r"MiB of shared memory.*--shm-size="):
        new_server(engine_dirs["cpu"]).start()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache_bytes": 1}, r"\(--cache-bytes\) goes with cache_dir \(--cache-dir\)"),
        ({"cache_dir": "/c", "cache_bytes": 0}, r"\(--cache-bytes\) must be > 0, got 0"),
    ],
)
def test_cache_settings_are_checked(engine_dirs, settings, message):
    with pytest.raises(InvalidRequestError, match=message):
        new_server(engine_dirs["cpu"], **settings).start()


def test_allowed_root_must_be_a_folder(engine_dirs, tmp_path):
    with pytest.raises(
        InvalidRequestError, match=r"allowed root \(--allow-root\) must be a folder that exists"
    ):
        new_server(engine_dirs["cpu"], allowed_roots=[tmp_path / "missing"]).start()


def test_engine_that_does_not_load_ends_the_start_early(engine_copy, tmp_path):
    engine = engine_copy / "grounding.onnx"
    engine.write_bytes(b"no graph")
    change_manifest(engine_copy, "files", {"grounding.onnx": file_sha256(engine)})
    files_before = shared_memory_files(os.getpid())
    server = new_server(engine_copy, log_file=tmp_path / "log")
    # 1, or -6: it crashes where a model that is still being loaded does not end in time.
    with pytest.raises(
        UnavailableError,
        match=r"^tritonserver ended before it was ready \(status (1|-6)\); its log says why:\n"
        r"cannot load the model grounding: .*cannot load grounding.onnx; rebuild the engine \w+$",
    ):
        server.start(timeout_seconds=60)
    assert shared_memory_files(os.getpid()) == files_before


def test_changed_file_is_refused_before_the_server_starts(engine_copy):
    (engine_copy / "grounding.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineMismatchError, match=r"grounding.onnx differs from the hash"):
        new_server(engine_copy).start()


def test_other_version_is_refused(engine_copy):
    change_manifest(engine_copy, "groundserve_version", "0.0.1")
    with pytest.raises(EngineMismatchError, match=r"was built by groundserve 0\.0\.1"):
        new_server(engine_copy).start()


def test_plain_tritonserver_serves_the_repository(engine_dirs, clips, tmp_path):
    with plain_tritonserver(engine_dirs["cpu"], tmp_path) as (process, address):
        protocol = Protocol("grpc", address)
        wait_until_ready(protocol, process)
        score_once(address, clips["carphone_pristine"])
        protocol.client.close()


def test_plain_tritonserver_refuses_another_version(engine_copy, tmp_path):
    change_manifest(engine_copy, "groundserve_version", "0.0.1")
    with plain_tritonserver(engine_copy, tmp_path) as (process, _):
        assert process.wait(60) in (1, -6)
    log = (tmp_path / "log").read_text("utf-8")
    assert "the engine directory was built by groundserve 0.0.1, this is" in log


def change_manifest(engine_dir: Path, key: str, value: object) -> None:
    path = engine_dir / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(manifest), "utf-8")


@contextmanager
def plain_tritonserver(
    engine_dir: Path, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the server with nothing but the repository, as NVIDIA's container does."""
    installation = find_installation()
    backends = tmp_path / "backends"
    backends.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        str(installation.executable),
        f"--model-repository={engine_dir / 'model_repository'}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    ]
    if linked := installation.link_backends(backends):
        command.append(f"--backend-directory={linked}")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd="/",
            env=server_environment(installation, {}),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(protocol: Protocol, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if protocol.client.is_server_ready():
                return
        except InferenceServerException:
            time.sleep(0.1)
    pytest.fail("tritonserver ended")
