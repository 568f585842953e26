"""Attention is full in every engine, and no graph holds a T x T tensor."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from python_backend.engine import EngineDirectory


@pytest.fixture(scope="module", params=["cpu", "torch"])
def grounder(request, engine_dirs):
    return EngineDirectory.load(engine_dirs[request.param]).open_grounder(num_threads=2)


def features(num_frames: int = 6, tokens_per_frame: int = 4) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.standard_normal((num_frames, tokens_per_frame, 48)).astype(np.float32)


def test_the_last_text_token_moves_the_first_frame(grounder):
    ids = np.arange(8)
    changed = np.append(ids[:-1], 100)
    before, after = grounder.ground(features(), ids), grounder.ground(features(), changed)
    assert abs(after[0] - before[0]) > 1e-4


@pytest.mark.parametrize("name", ["vision_encoder", "grounding"])
def test_attention_is_one_fused_node_without_a_mask(engine_dirs, name):
    graph = onnx.load(engine_dirs["cpu"] / f"{name}.onnx").graph
    attention = [node for node in graph.node if node.op_type == "MultiHeadAttention"]
    assert len(attention) == 2
    assert all(len([i for i in node.input if i]) == 3 for node in attention)
    assert not [
        node.op_type for node in graph.node if node.op_type in {"Softmax", "Trilu", "Where"}
    ]


MEASURE = """
import resource, sys
import numpy as np
from python_backend.ground import OnnxRuntimeGrounder
from pathlib import Path
grounder = OnnxRuntimeGrounder(Path(sys.argv[1]), num_threads=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
grounder.ground(np.ones((512, 25, 48), np.float32), np.arange(100))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_grounding_12900_tokens_holds_no_square_tensor(engine_dirs):
    """One head's 12,900 x 12,900 float32 scores alone would take 666 MB."""
    path = engine_dirs["cpu"] / "grounding.onnx"
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    grown_kib = int(run.stdout)
    assert grown_kib < 300 * 1024
