"""Running `trtllm-build`: the command, the refusals, and a build with a double of the program."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from engine_build.triton.__main__ import REFERENCE_MODEL
from engine_build.trtllm import build_engine
from engine_build.trtllm.build import build_command
from groundserve.errors import UnavailableError, UnsupportedError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.decoder import read_embeddings, write_embeddings
from python_backend.ground.engine import EngineGrounder
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from python_backend.ground.torch import TorchGrounder
from tests.fake_tensorrt_llm.engines import GPU_ARCH, HostGpu
from tests.support.reference import REPOSITORY, SET_1

# Its longest request has 700 tokens.
TINY = SET_1 / "videoitg-tiny"


def shell(*lines):
    return "\n".join(["#!/bin/sh", *lines, ""])


def shown_command():
    """Return the words of the command that the documentation shows."""
    text = (REPOSITORY / "docs" / "gpu.md").read_text("utf-8")
    block = re.findall(r"```bash\n(trtllm-build .*?)```", text, flags=re.DOTALL)[0]
    return shlex.split(block.replace("\\\n", " "))


def test_build_command_is_the_documented_one():
    command = build_command(
        Path("CONVERTED"),
        Path("engines/trtllm"),
        model=REFERENCE_MODEL,
        precision="bf16",
        timing_cache=Path("CONVERTED/timing.cache"),
    )
    model_file = REPOSITORY / "engine_build" / "trtllm" / "model.py"
    index = command.index(str(model_file))
    command[index] = str(model_file.relative_to(REPOSITORY))
    assert command == shown_command()


def build_tiny(engine_dir, **options):
    opened = Checkpoint.open(TINY)
    model = opened.model_spec(pad_token_id=0)
    build_engine(opened, engine_dir, model=model, **options)


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """A working directory in which `model.cache` cannot be written, by root either."""
    folder = tmp_path / "unwritable"
    (folder / "model.cache").mkdir(parents=True)
    folder.chmod(0o555)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("machine")
def test_build_engine_end_to_end(tmp_path, unwritable):
    opened = Checkpoint.open(TINY)
    build_tiny(tmp_path / "out" / "trtllm", precision="bf16")
    engine_dir = tmp_path / "out" / "trtllm"
    assert {path.name for path in engine_dir.iterdir()} == {"config.json", "rank0.engine"}
    assert [path.name for path in engine_dir.parent.iterdir()] == ["trtllm"]
    assert [path.name for path in unwritable.iterdir()] == ["model.cache"]
    config = json.loads((engine_dir / "config.json").read_text())
    assert config["groundserve"] == {"gpu_arch": GPU_ARCH, "tensorrt": "10.14.1.48"}
    # The front in PyTorch, the engine behind it, as a server opens them.
    narrow = opened.load_grounding(dtype=torch.bfloat16)
    write_embeddings(narrow, tmp_path / "embeddings.safetensors")
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    front = read_embeddings(tmp_path / "embeddings.safetensors", device="cpu")
    grounder = EngineGrounder(front, scorer)
    features = np.random.default_rng(0).standard_normal((24, 4, 48)).astype(np.float32)
    ids = np.arange(9)
    exact = TorchGrounder(opened.load_grounding(dtype=torch.float64)).ground(features, ids)
    errors = [
        np.sqrt(np.mean((one.ground(features, ids) - exact) ** 2))
        for one in (grounder, TorchGrounder(narrow))
    ]
    # Both round the same weights and products to bfloat16, in nearly the same places.
    assert errors[1] / 2 < errors[0] < 2 * errors[1]


def test_build_engine_passes_the_builders_words_on(machine, tmp_path):
    machine(shell("echo one", "echo the reason >&2", "exit 3"))
    with pytest.raises(UnsupportedError, match=r"trtllm-build ended with code 3:\none\nthe reason"):
        build_tiny(tmp_path / "trtllm", precision="bf16")


def test_build_engine_ends_a_builder_that_hangs(machine, tmp_path, monkeypatch):
    machine(shell("exec /bin/sleep 600"))
    monkeypatch.setattr("engine_build.trtllm.build._MAX_BUILD_SECONDS", 0.2)
    with pytest.raises(UnavailableError, match="trtllm-build did not end within"):
        build_tiny(tmp_path / "trtllm", precision="bf16")


def test_build_engine_refuses_unfused_attention(machine, tmp_path):
    machine(shell("echo '[TensorRT-LLM][WARNING] Fall back to unfused MHA for d 16 in sm_90.'"))
    with pytest.raises(UnsupportedError, match=r"no fused attention .* for d 16 in sm_90"):
        build_tiny(tmp_path / "trtllm", precision="bf16")


def test_build_engine_needs_a_gpu(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="the GPU of this machine, which has none"):
        build_tiny(tmp_path / "trtllm", precision="bf16")
