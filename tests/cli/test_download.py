"""`groundserve download` from a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from groundserve.weights.published import PUBLISHED
from tests.support.hub import COMMIT, Hub

SIGLIP = PUBLISHED["siglip"].repositories[0].hub_id
# Large enough that half of it is more than huggingface_hub writes at a time, 10 MiB.
FILES = {"config.json": b'{"model_type": "siglip"}', "model.safetensors": os.urandom(24_000_000)}


@pytest.fixture
def hub():
    with Hub(SIGLIP, dict(FILES)) as hub:
        yield hub


@pytest.fixture
def call(hub, tmp_path):
    """Run a command with this hub and a home of its own."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}

    def call(*arguments):
        command = [sys.executable, "-m", "groundserve", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return call


def test_nothing_is_fetched_before_the_licence_is_agreed_to(call, hub):
    run = call("download", "siglip")
    assert run.returncode == 2
    assert "licence Apache-2.0" in run.stderr
    assert "--accept-license" in run.stderr
    assert not hub.asked


def test_a_download_is_pinned_checked_and_known_to_doctor(call, hub, tmp_path):
    run = call("download", "siglip", "--accept-license", "--json")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    folder = tmp_path / "cache" / "groundserve" / "checkpoints" / "siglip"
    assert answer["folder"] == str(folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    (told,) = answer["repositories"].values()
    assert told["commit"] == COMMIT
    assert told["files"].keys() == FILES.keys()
    pinned = PUBLISHED["siglip"].repositories[0].revision
    asked = [path.partition("?")[0] for _, path, _ in hub.asked]
    assert f"/api/models/{SIGLIP}/revision/{pinned}" in asked
    findings = json.loads(call("doctor", "--json").stdout)["findings"]
    found = {one["subject"]: one["detail"] for one in findings}
    assert found["checkpoint siglip"] == str(folder)
    assert "groundserve download videoitg" in found["checkpoint videoitg"]


def test_a_broken_connection_goes_on_and_nothing_is_fetched_twice(call, hub):
    hub.num_breaks = 1
    assert call("download", "siglip", "--accept-license").returncode == 0
    large = [one for one in hub.asked if one[0] == "GET" and "model.safetensors" in one[1]]
    assert [given for *_, given in large] == [None, f"bytes={10 * 2**20}-"]
    hub.asked.clear()
    assert call("download", "siglip", "--accept-license").returncode == 0
    assert not [one for one in hub.asked if one[0] == "GET" and "/resolve/" in one[1]]


def test_another_file_than_the_hub_lists_is_refused_and_deleted(call, hub, tmp_path):
    hub.files["model.safetensors"] = os.urandom(3_000_000)
    run = call("download", "siglip", "--accept-license", "--out", str(tmp_path / "out"))
    assert run.returncode == 2
    assert "its hash is not the hub's" in run.stderr
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_checkpoint_without_a_known_commit_needs_one(call, hub):
    run = call("download", "videoitg", "--accept-license")
    assert run.returncode == 2
    assert "no commit of nvidia/VideoITG-8B is pinned; give --revision" in run.stderr
    assert not hub.asked
