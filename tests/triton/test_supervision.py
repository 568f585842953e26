"""Each kind of process killed once under load: the service comes back and leaves nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.kills import broken_promises, is_alive, measure
from groundserve.serving.run_folder import remove_dead

SERVE = [sys.executable, "-c", "from groundserve.cli.main import main; main()", "serve"]
ANY_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"]


class Serve:
    """`groundserve serve` as a program of its own."""

    def __init__(self, engines: Path, folder: Path) -> None:
        command = [*SERVE, "--engines", str(engines), *ANY_PORTS, "--log-file", str(folder / "log")]
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        self.root = psutil.Process(self.program.pid)

    def wait_until_ready(self) -> None:
        assert b'"ready": true' in self.program.stdout.readline()

    def family(self, name: str = "") -> list[psutil.Process]:
        """Processes below it whose command line has a word."""
        found = []
        for process in self.root.children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if name in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def stop(self) -> None:
        """SIGTERM, and what must then be true."""
        family = self.root.children(recursive=True)
        self.program.send_signal(signal.SIGTERM)
        self.program.wait(60)
        assert self.program.returncode == 0
        assert not [process for process in family if is_alive(process)]
        assert not list(Path("/dev/shm").glob(f"groundserve_{self.program.pid}_*"))


@pytest.fixture
def serve(engine_dirs, tmp_path):
    started = Serve(engine_dirs["cpu"], tmp_path)
    yield started
    started.program.kill()
    started.program.wait()
    started.program.stdout.close()


def test_each_kind_of_process_killed_once(engine_dirs, clips, tmp_path):
    results = measure(engine_dirs["cpu"], clips["carphone_pristine"], 3, 0, tmp_path)
    assert broken_promises(results) == []
    assert {kill["kind"] for kill in results["kills"]} == {"stub", "worker", "server"}
    assert results["events"] == {
        "stub_died": 1,
        "model_reloaded": 1,
        "server_died": 1,
        "server_restarted": 1,
        "step": 1,
    }


def test_sigterm_while_starting(serve):
    while not serve.family("tritonserver"):
        time.sleep(0.01)
    serve.stop()


def test_sigterm_while_loading(serve):
    while not serve.family("triton_python_backend_stub"):
        time.sleep(0.01)
    serve.stop()


def test_sigterm_when_idle(serve):
    serve.wait_until_ready()
    serve.stop()


def test_sigterm_with_stubs_stopped(serve):
    serve.wait_until_ready()
    for stub in serve.family("triton_python_backend_stub"):
        stub.suspend()
    serve.stop()


def test_sigterm_with_the_server_stopped(serve):
    serve.wait_until_ready()
    serve.family("bin/tritonserver")[0].suspend()
    serve.stop()


def test_sigterm_with_a_stub_just_dead(serve):
    serve.wait_until_ready()
    serve.family("/grounding/")[0].kill()
    serve.stop()


def test_sigterm_while_a_model_is_loaded_again(serve):
    serve.wait_until_ready()
    serve.family("/grounding/")[0].kill()
    while b"stub_died" not in serve.errors.read_bytes():
        time.sleep(0.01)
    serve.stop()


def test_secret_is_not_logged(serve):
    serve.wait_until_ready()
    words = serve.family("bin/tritonserver")[0].cmdline()
    secret = next(word for word in words if "http-restricted-api" in word).rpartition("=")[2]
    serve.stop()
    log = serve.errors.with_name("log").read_bytes() + serve.errors.read_bytes()
    assert len(secret) == 64
    assert secret.encode() not in log


def test_model_that_cannot_be_loaded_again_ends_the_service(engine_dirs, tmp_path):
    engines = shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")
    serve = Serve(engines, tmp_path)
    serve.wait_until_ready()
    (engines / "grounding.onnx").unlink()
    serve.family("/grounding/")[0].kill()
    assert serve.program.wait(30) == 1
    serve.program.stdout.close()
    last_line = serve.errors.read_text("utf-8").splitlines()[-1]
    assert "groundserve: error: the model grounding lost a process" in last_line
    assert not list(Path("/dev/shm").glob(f"groundserve_{serve.program.pid}_*"))


def test_only_what_dead_servers_left_is_removed(serve):
    """Nobody tidies up after SIGKILL; the next server does, once the last process has ended."""
    serve.wait_until_ready()
    left = set(Path("/dev/shm").glob(f"groundserve_{serve.program.pid}_*"))
    family = serve.family()
    assert len(left) == 1 + len(serve.family("triton_python_backend_stub"))
    try:
        serve.program.kill()
        serve.program.wait()
        remove_dead()
        assert left == set(Path("/dev/shm").glob(f"groundserve_{serve.program.pid}_*"))
    finally:
        for process in family:
            with suppress(psutil.Error):
                process.kill()
    _, alive = psutil.wait_procs(family, 10)
    assert not alive
    remove_dead()
    assert not list(Path("/dev/shm").glob(f"groundserve_{serve.program.pid}_*"))
