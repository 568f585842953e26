"""Engines that are rebuilt under a server: neither loaded nor served, and the keeper says so."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from groundserve import Client
from groundserve.engines.engine_use import find_use
from groundserve.engines.manifest import MANIFEST_NAME, Manifest
from groundserve.errors import UnavailableError
from groundserve.serving import TritonServer
from tests.triton.program import Serve


def rebuild(engine_dir: Path) -> Path:
    """Put other engines at the place: the same files, and a manifest of another identity."""
    old = engine_dir.with_name("old")
    engine_dir.rename(old)
    shutil.copytree(old, engine_dir)
    manifest = json.loads((engine_dir / MANIFEST_NAME).read_text("utf-8"))
    manifest["source_config"]["rebuilt"] = True
    (engine_dir / MANIFEST_NAME).write_text(json.dumps(manifest), "utf-8")
    return old


def put_back(old: Path, engine_dir: Path) -> None:
    shutil.rmtree(engine_dir)
    old.rename(engine_dir)


@pytest.fixture
def engines(engine_dirs, tmp_path) -> Path:
    return shutil.copytree(engine_dirs["cpu"], tmp_path / "engines")


def test_rebuilt_engines_are_neither_loaded_nor_served(engines, clips, tmp_path):
    before = Manifest.load(engines).engine_id
    with TritonServer(engines, grpc_port=0, metrics_port=0, log_file=tmp_path / "log") as server:
        stubs = server.stubs()
        assert find_use(engines) is not None
        old = rebuild(engines)
        assert find_use(engines) is None  # nobody serves the new ones
        with pytest.raises(UnavailableError, match=f"in use is {before}; start a server on"):
            server.reload_model("grounding")
        assert server.stubs() == stubs  # nothing was unloaded
        with pytest.raises(UnavailableError, match="in use is"):
            server.restart()
        assert server.is_running()
        # What a process would do that the supervisor did not hold back.
        server._api.unload_model("grounding")
        with pytest.raises(UnavailableError, match="cannot load the model grounding"):
            server._api.finish(server._api.begin_load("grounding"), "load the model grounding")
        assert "was rebuilt while it was in use: it holds" in (tmp_path / "log").read_text("utf-8")
        put_back(old, engines)
        server.reload_model("grounding")
        with Client(f"grpc://{server.grpc_address}") as client:
            result = client.score(clips["carphone_pristine"].read_bytes(), "When?")
        assert result.engine["id"] == before


def test_serve_tells_of_a_rebuild_and_heals_when_it_is_undone(engines, clips, tmp_path):
    serve = Serve(engines, tmp_path)
    try:
        serve.wait_until_ready()
        addresses = serve.addresses
        assert health(addresses) == (200, [])
        check_metrics(read(addresses["metrics"])[1])
        old = rebuild(engines)
        wait_until(lambda: "was rebuilt" in "".join(health(addresses)[1]))
        assert health(addresses)[0] == 200  # all that was loaded lives
        serve.family("/grounding/")[0].kill()
        wait_until(lambda: health(addresses)[0] == 503)
        assert "grounding" in "".join(health(addresses)[1])
        put_back(old, engines)
        wait_until(lambda: health(addresses) == (200, []))
        serve.score_until_answered(clips["carphone_pristine"])
        serve.stop()
    finally:
        serve.kill()
    events = serve.events()
    assert events[0]["event"] == "engines_changed"
    assert "in use is" in next(e["reason"] for e in events if e["event"] == "reload_failed")


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
