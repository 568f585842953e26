"""Running `trtllm-build`: the command, the refusals, and a build with a double of the program."""

from __future__ import annotations

import json
import stat
import sys

import numpy as np
import pytest
import torch

from engine_build.trtllm import EngineLimits, build_engine
from engine_build.trtllm.build import build_command, check_log
from groundserve.errors import UnsupportedError
from groundserve.modeling.checkpoint import Checkpoint
from groundserve.modeling.embeddings import write_embeddings
from python_backend.ground import TorchGrounder
from python_backend.ground.engine import EngineGrounder
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm import SIGNATURES, VERSION
from tests.fake_tensorrt_llm.engines import GPU_ARCH, HostGpu
from tests.reference import REPOSITORY, SET_1

# Its longest request has 700 tokens.
TINY = SET_1 / "videoitg-tiny"
PROGRAM = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
assert os.environ["TLLM_LOG_LEVEL"] == "INFO"
assert os.environ["OMPI_MCA_ess_singleton_isolated"] == "1"
assert os.environ["PMIX_MCA_gds"] == "the user's"
import pytest
from tests import fake_tensorrt_llm
fake_tensorrt_llm.install(pytest.MonkeyPatch())
from tests.fake_tensorrt_llm.builder import main
main()
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a GPU and the pinned TensorRT-LLM; returns how to replace its program."""
    fake_tensorrt_llm.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TLLM_LOG_LEVEL", "ERROR")
    monkeypatch.setenv("PMIX_MCA_gds", "the user's")
    monkeypatch.syspath_prepend(str(folder))
    install_metadata(folder, VERSION)

    def replace_program(text):
        program = folder / "trtllm-build"
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    replace_program(PROGRAM)
    return replace_program


def install_metadata(folder, version):
    info = folder / f"tensorrt_llm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {version}\n"
    )


def shell(*lines):
    return "\n".join(["#!/bin/sh", *lines, ""])


def test_build_command_names_every_choice(tmp_path):
    limits = EngineLimits(
        max_batch_size=4, max_input_len=20480, max_num_tokens=40960, opt_num_tokens=17408
    )
    command = build_command(
        tmp_path / "checkpoint", tmp_path / "engine", precision="bf16", limits=limits
    )
    model_file = REPOSITORY / "engine_build" / "trtllm" / "model.py"
    assert " ".join(command) == (
        f"trtllm-build --checkpoint_dir {tmp_path}/checkpoint --output_dir {tmp_path}/engine "
        f"--model_cls_file {model_file} --model_cls_name VideoITGQwen2ForGrounding "
        "--max_batch_size 4 --max_beam_width 1 --max_input_len 20480 --max_seq_len 20480 "
        "--max_num_tokens 40960 --opt_num_tokens 17408 --kv_cache_type disabled "
        "--remove_input_padding enable --context_fmha enable --gpt_attention_plugin bfloat16 "
        "--gemm_plugin bfloat16 --use_paged_context_fmha disable --use_fp8_context_fmha disable "
        "--use_fused_mlp enable --workers 1 --log_level info"
    )
    flags = {word.removeprefix("--") for word in command if word.startswith("--")}
    assert flags <= set(SIGNATURES["trtllm-build"]["flags"])


def test_build_engine_end_to_end(machine, tmp_path):
    opened = Checkpoint.open(TINY)
    build_engine(opened, tmp_path / "out" / "trtllm", precision="bf16", max_num_tokens=30000)
    engine_dir = tmp_path / "out" / "trtllm"
    assert {path.name for path in engine_dir.iterdir()} == {"config.json", "rank0.engine"}
    assert [path.name for path in engine_dir.parent.iterdir()] == ["trtllm"]
    config = json.loads((engine_dir / "config.json").read_text())
    assert config["groundserve"] == {"gpu_arch": GPU_ARCH, "tensorrt": "10.14.1.48"}
    assert config["build_config"]["max_num_tokens"] == 30000
    # The front in PyTorch, the engine behind it, as a server opens them.
    model = opened.load_grounding(dtype=torch.bfloat16)
    write_embeddings(model, tmp_path / "embeddings.safetensors")
    scorer = TensorRTLLMTokenScorer(engine_dir, gpu=HostGpu())
    grounder = EngineGrounder(tmp_path / "embeddings.safetensors", scorer, device="cpu")
    features = np.random.default_rng(0).standard_normal((6, 4, 48)).astype(np.float32)
    ids = np.arange(9)
    expected = TorchGrounder(opened.load_grounding()).ground(features, ids)
    # bfloat16 against float32; the logits reach 3.1.
    np.testing.assert_allclose(grounder.ground(features, ids), expected, atol=0.03)


def test_build_engine_passes_the_builders_words_on(machine, tmp_path):
    machine(shell("echo one", "echo the reason >&2", "exit 3"))
    with pytest.raises(UnsupportedError, match=r"trtllm-build ended with code 3:\none\nthe reason"):
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="bf16")


def test_build_engine_refuses_unfused_attention(machine, tmp_path):
    machine(shell("echo '[TensorRT-LLM][WARNING] Fall back to unfused MHA for d 16 in sm_90.'"))
    with pytest.raises(UnsupportedError, match=r"no fused attention .* for d 16 in sm_90"):
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="bf16")


def test_check_log_takes_a_quiet_log():
    check_log("[TensorRT-LLM][INFO] Total time of building all engines: 00:01:02\n")


def test_build_engine_refuses_a_program_of_another_release(machine, tmp_path):
    machine(shell(f'echo \'{{"version": "1.2.0"}}\' > {tmp_path}/trtllm/config.json'))
    with pytest.raises(
        UnsupportedError, match=r"TensorRT-LLM 1\.2\.1, the one on PATH is of 1\.2\.0"
    ):
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="bf16")


def test_build_engine_refuses_float32(tmp_path):
    with pytest.raises(UnsupportedError, match="bf16 or fp16, got precision fp32"):
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="fp32")


def refused_by(tmp_path):
    with pytest.raises(
        UnsupportedError, match=r"container nvcr\.io/nvidia/tritonserver:26\.04-trtllm-python-py3"
    ) as refused:
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="bf16")
    return str(refused.value)


def test_build_engine_says_that_the_builder_is_missing(tmp_path):
    assert "by TensorRT-LLM 1.2.1, which is not installed here; build in" in refused_by(tmp_path)


def test_build_engine_says_that_the_program_is_missing(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "which has no trtllm-build on PATH; build in" in refused_by(tmp_path)


def test_build_engine_refuses_another_release(machine, tmp_path):
    folder = tmp_path / "machine"
    (folder / "tensorrt_llm-1.2.1.dist-info").rename(folder / "elsewhere")
    install_metadata(folder, "1.3.0rc20")
    assert "which is 1.3.0rc20 here; build in" in refused_by(tmp_path)


def test_build_engine_needs_a_gpu(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="the GPU of this machine, which has none"):
        build_engine(Checkpoint.open(TINY), tmp_path / "trtllm", precision="bf16")
