"""The real server: rebuilt under its feet, and replaced while clients ask without a pause."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundserve import Client
from groundserve.engine_use import find_use
from groundserve.errors import UnavailableError
from groundserve.manifest import MANIFEST_NAME, Manifest
from groundserve.serving import Service, TritonServer, command, service
from groundserve.serving.processes import ending_with_parent
from groundserve.serving.stubs import find_stubs

SERVE = [sys.executable, "-c", "from groundserve.cli.main import main; main()", "serve"]
AGE_SECONDS = 2
QUESTION = "When does something move?"


def rebuild(engine_dir: Path) -> None:
    """Put other engines at the place: the same files, and a manifest of another identity."""
    old = engine_dir.with_name("old")
    engine_dir.rename(old)
    shutil.copytree(old, engine_dir)
    manifest = json.loads((engine_dir / MANIFEST_NAME).read_text("utf-8"))
    manifest["source_config"]["rebuilt"] = True
    (engine_dir / MANIFEST_NAME).write_text(json.dumps(manifest), "utf-8")


@pytest.fixture(scope="module")
def engines(engine_dirs, tmp_path_factory) -> Path:
    return shutil.copytree(engine_dirs["cpu"], tmp_path_factory.mktemp("served") / "engines")


@pytest.fixture(scope="module")
def running(engines, tmp_path_factory):
    """A service, its server's log, and the directory it was started on."""
    log_file = tmp_path_factory.mktemp("log") / "triton.log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "MAX_CONNECTION_AGE_SECONDS", AGE_SECONDS)
        patch.setattr(service, "MAX_CONNECTION_AGE_SECONDS", AGE_SECONDS)
        server = TritonServer(engines, http_port=0, grpc_port=0, metrics_port=0, log_file=log_file)
        started = Service(server, engines)
        try:
            started.start()
            yield started, log_file
        finally:
            started.stop()


class Asking:
    """Clients that ask without a pause: over one connection, over ever new ones, and over HTTP."""

    def __init__(self, server: TritonServer, clip: bytes) -> None:
        self.server, self.clip = server, clip
        self.answers: Counter[str] = Counter()
        self.stop = threading.Event()

    @contextmanager
    def running(self):
        threads = [threading.Thread(target=t) for t in (self._keep, self._renew, self._http)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _score(self, client: Client) -> None:
        try:
            result = client.score(self.clip, QUESTION)
            self.answers[result.engine["id"]] += 1
        except Exception as error:  # noqa: BLE001 - the finding
            self.answers[repr(error)] += 1

    def _keep(self) -> None:
        with Client(f"grpc://{self.server.grpc_address}", timeout_seconds=30) as client:
            while not self.stop.wait(0.02):
                self._score(client)

    def _renew(self) -> None:
        while not self.stop.wait(0.1):
            with Client(f"grpc://{self.server.grpc_address}", timeout_seconds=30) as client:
                self._score(client)

    def _http(self) -> None:
        url = f"http://{self.server.http_address}/v2/models/videoitg/ready"
        while not self.stop.wait(0.02):
            try:
                get(url)
            except OSError as error:
                self.answers[f"HTTP: {error!r}"] += 1


def get(url: str) -> None:
    """Ask once more where the connection was reset: docs/operations.md."""
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except OSError as error:
        if not isinstance(getattr(error, "reason", error), ConnectionResetError):
            raise
        urllib.request.urlopen(url, timeout=10).close()


def test_rebuilt_engines_are_neither_loaded_nor_served(running, engines, clips):
    started, log_file = running
    server = started.server
    before = Manifest.load(engines).engine_id
    stubs = server.stubs()
    assert find_use(engines) is not None
    rebuild(engines)
    assert find_use(engines) is None  # nobody serves the new ones
    with pytest.raises(UnavailableError, match=f"in use is {before}; switch the server"):
        server.reload_model("grounding")
    assert server.stubs() == stubs  # nothing was unloaded
    with pytest.raises(UnavailableError, match="in use is"):
        server.restart()
    assert server.is_running()
    # What a process would do that the supervisor did not hold back.
    with pytest.raises(UnavailableError, match="cannot load the model frame_selector"):
        server._api.reload_model("frame_selector")
    assert "was rebuilt while it was in use: it holds" in log_file.read_text("utf-8")
    old, new = engines.with_name("old"), engines.with_name("new")
    engines.rename(new)
    old.rename(engines)
    server.reload_model("frame_selector")
    with Client(f"grpc://{server.grpc_address}") as client:
        result = client.score(clips["carphone_pristine"].read_bytes(), QUESTION)
    assert result.engine["id"] == before
    shutil.rmtree(new)


def test_no_request_fails_across_a_switch_and_no_answer_is_of_both(running, engines, clips):
    started, _ = running
    old = started.server
    before = old.engine_id
    rebuild(engines)
    now = Manifest.load(engines).engine_id
    with Asking(old, clips["carphone_pristine"].read_bytes()).running() as asking:
        wait_for(lambda: asking.answers[before] >= 5, started)
        started.request_switch()
        wait_for(lambda: started.server is not old, started)
        wait_for(lambda: old.pid is None, started)
        wait_for(lambda: asking.answers[now] >= 5, started)
    assert set(asking.answers) == {before, now}
    assert started.server.engine_id == now
    assert started.server.grpc_address == old.grpc_address
    wait_for(lambda: started.status().problems == (), started)
    assert started.status().is_ready


def wait_for(condition, started: Service) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        started._goes_on()
        time.sleep(0.05)


def test_serve_tells_of_a_rebuild_and_heals_when_it_is_switched(engine_dirs, tmp_path):
    engines = shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0", "--json"]
    log = tmp_path / "log"
    with (
        (tmp_path / "events").open("wb") as events,
        subprocess.Popen(
            ending_with_parent([*SERVE, "--engines", str(engines), *ports, "--log-file", str(log)]),
            stdout=subprocess.PIPE,
            stderr=events,
        ) as program,
    ):
        try:
            addresses = json.loads(program.stdout.readline())
            assert health(addresses) == (200, [])
            check_metrics(read(addresses["metrics"])[1])
            rebuild(engines)
            wait_until(lambda: "was rebuilt" in "".join(health(addresses)[1]))
            assert health(addresses)[0] == 200  # all that was loaded lives
            (stub,) = [s for s in find_stubs(addresses["pid"]) if s.model == "frame_selector"]
            os.kill(stub.pid, signal.SIGKILL)
            wait_until(lambda: health(addresses)[0] == 503)
            assert "frame_selector" in "".join(health(addresses)[1])
            assert read(f"{addresses['http']}/v2/models/grounding/ready")[0] == 200
            program.send_signal(signal.SIGHUP)
            wait_until(lambda: health(addresses) == (200, []))
            assert "\ngroundserve_switches_total 1\n" in read(addresses["metrics"])[1]
        finally:
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
    told = [json.loads(line) for line in (tmp_path / "events").read_text("utf-8").splitlines()]
    assert "in use is" in next(e["reason"] for e in told if e["event"] == "reload_failed")
    assert [e["event"] for e in told if "switch" in e["event"]] == ["switch_started", "switched"]


def check_metrics(text: str) -> None:
    assert "\ngroundserve_up 1\n" in text
    assert "\ngroundserve_server_restarts_total 0\n" in text
    assert "\nnv_inference_count{" in text
    families = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE"))
    assert max(families.values()) == 1


def health(addresses: dict[str, str]) -> tuple[int, list[str]]:
    status, text = read(addresses["health"])
    answer = json.loads(text)
    assert answer["ready"] == (status == 200)
    return status, answer["problems"]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
