"""Two calls of the vision encoder that one request has outstanding, on the real server."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.manifest import MANIFEST_NAME, Manifest, hash_tree
from groundserve.options import ScoreOptions
from python_backend.chunks import NUM_SERVED_ENCODES
from tests.triton.serve import Server, serve

# Waits while the file `hold` is in the folder of its log.
VISION_ENCODER = """
import time
from pathlib import Path
from python_backend.triton.vision_encoder import TritonPythonModel as VisionEncoder

FOLDER = Path({folder!r})


class Held:
    def __init__(self, encoder):
        self.encoder = encoder

    def encode(self, frames, pooling):
        (FOLDER / "begun").touch()
        while (FOLDER / "hold").exists():
            time.sleep(0.01)
        return self.encoder.encode(frames, pooling)


class TritonPythonModel(VisionEncoder):
    def initialize(self, args):
        super().initialize(args)
        self._encoder = Held(self._encoder)
"""
OPTIONS = {"sampling": "infer", "sample_fps": 25, "num_frames": 250}  # four chunks of `bikes`


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("in_flight")


@pytest.fixture(scope="module")
def held_server(engine_dirs, folder) -> Iterator[Server]:
    out = folder / "engines"
    shutil.copytree(engine_dirs["cpu"], out)
    code = VISION_ENCODER.format(folder=str(folder))
    (out / "model_repository" / "vision_encoder" / "1" / "model.py").write_text(code)
    manifest = replace(Manifest.load(out), files=hash_tree(out))
    (out / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    with serve(out, folder / "tritonserver.log") as running:
        yield running


def num_waiting(server: Server) -> int:
    """Calls of `vision_encoder` in its queue; the one it works on is not counted."""
    with urllib.request.urlopen(f"http://{server.triton.metrics_address}/metrics") as response:
        text = response.read().decode()
    pattern = r'^nv_inference_pending_request_count\{model="vision_encoder".*\} (\d+)'
    (count,) = re.findall(pattern, text, re.MULTILINE)
    return int(count)


def test_the_next_chunk_waits_at_the_encoder_while_one_is_encoded(
    held_server, folder, clips, pipeline
):
    (folder / "hold").touch()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(held_server.ask, clips["bikes"], "When?", **OPTIONS)
        deadline = Deadline.after(60)
        try:
            while not (folder / "begun").exists() or not num_waiting(held_server):
                deadline.check()
                assert not answer.done()
            assert num_waiting(held_server) == NUM_SERVED_ENCODES - 1
        finally:
            (folder / "hold").unlink()
        expected = pipeline.score(clips["bikes"], "When?", ScoreOptions(**OPTIONS))
        np.testing.assert_array_equal(
            answer.result()["FRAME_LOGITS"], [expected.queries[0].frame_logits]
        )
    assert num_waiting(held_server) == 0
