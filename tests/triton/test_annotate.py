"""The project's own gateway as an endpoint: a text family describes clips, which it gets as video.

What the other stages need, JSON, no family of ours writes; they ask another endpoint.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.digits_llm import DigitsLlm, write_manifest
from tests.triton.answers import url
from tests.unit.evaluation.qa.chat_server import ChatServer
from tests.unit.gateway.conftest import gateway
from train.digits.dataset import write_grounding_set


class Upstream:
    def __init__(self, server) -> None:
        self.url = url(server.triton)


@pytest.mark.timeout(600)
def test_a_text_family_behind_the_gateway_describes_the_clips(answering, video_root, tmp_path):
    path = write_grounding_set(tmp_path, split="test", seed=4, num_videos=1, num_frames=12)
    records = json.loads(path.read_text())
    manifest = write_manifest(records, tmp_path / "manifest.jsonl")
    with (
        gateway(video_root, Upstream(answering)) as client,
        ChatServer(DigitsLlm(records, tmp_path)) as server,
    ):
        out = tmp_path / "run"
        words = ["annotate", manifest, "--out", out, "--choice", "all", "--json"]
        words += ["--endpoint", server.url, "--model", "digits"]
        words += ["--endpoint", f"caption={client.server.url}/v1", "--model", "caption=vtimellm"]
        words += ["--send-video"]
        command = [sys.executable, "-m", "groundserve", *map(str, words)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    summary = json.loads(told.stdout.splitlines()[-1])
    captions = summary["stages"]["caption"]
    assert captions["calls"] % 3 == 0  # clips of 12 seconds
    assert captions["prompt_tokens"] > 0
    assert captions["completion_tokens"] > 0
    found = json.loads((out / "annotations.json").read_text())
    truth = {record["id"]: record["frame_num"] for record in records}
    assert {one["id"]: one["frame_num"] for one in found} == truth
