"""What `groundserve doctor` looks at of the software around an NVIDIA GPU, as rows."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from groundserve.families.base import FindingRow
from groundserve.runtime.gpu import MPI_ENVIRONMENT
from groundserve.serving.installation import TritonInstallation, count_gpus

# What the profile gpu needs; gpu-trt does without tensorrt_llm, torch without any.
_MODULES = ("tensorrt", "tensorrt_llm", "nvidia.dali")
_BUILDER = "trtllm-build"
# It imports PyTorch, TensorRT and MPI before it reads its arguments.
_BUILDER_TIMEOUT_SECONDS = 120.0


def check_backends(installation: TritonInstallation, *, num_gpus: int) -> FindingRow:
    """Look for the libraries of the backends that engine directories name."""
    if not installation.backend_dir.is_dir():  # tritonserver on PATH may be a script, for one
        return "Triton backends", "warn", f"not looked at: there is no {installation.backend_dir}"
    found = [name for name in ("python", "tensorrt") if installation.has_backend(name)]
    detail = f"{', '.join(found)} in {installation.backend_dir}"
    if "python" not in found:
        why = f"no python in {installation.backend_dir}, without which no engines can be served"
        return "Triton backends", "fail", why
    if num_gpus and "tensorrt" not in found:
        return (
            "Triton backends",
            "warn",
            f"{detail}: the profiles gpu and gpu-trt need tensorrt, which the image of "
            "deploy/Dockerfile has",
        )
    return "Triton backends", "ok", detail


def check_gpu_software() -> Iterator[FindingRow]:
    """Yield what a machine with a GPU has to build and run engines for it."""
    yield _cuda_row()
    found = [name for name in _MODULES if _is_installed(name)]
    detail = f"{', '.join(found) or 'none'} of {', '.join(_MODULES)}"
    yield "GPU libraries", "ok" if len(found) == len(_MODULES) else "warn", detail
    if shutil.which(_BUILDER) is not None:
        yield _builder_row()


def _cuda_row() -> FindingRow:
    try:
        status, count = count_gpus()
    except OSError:
        return "CUDA", "fail", "the driver's libcuda.so.1 is not here; with Docker: --gpus"
    if status or count < 1:
        detail = f"it finds {count} GPUs (status {status}); see nvidia-smi and CUDA_VISIBLE_DEVICES"
        return "CUDA", "fail", detail
    if importlib.util.find_spec("torch") is None:
        return "CUDA", "ok", f"{count} GPUs"
    import torch

    if not torch.cuda.is_available():
        detail = f"{count} GPUs, of which PyTorch {torch.__version__} sees none: install a build "
        return "CUDA", "warn", detail + "of it for the driver's CUDA"
    return "CUDA", "ok", f"{count} GPUs, PyTorch {torch.__version__} with {torch.version.cuda}"


def _builder_row() -> FindingRow:
    from engine_build.trtllm import PINNED_VERSION

    try:
        answer = subprocess.run(
            [_BUILDER, "--version"],
            env={**MPI_ENVIRONMENT, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_BUILDER_TIMEOUT_SECONDS,
            check=False,  # 1.2.1 prints its version and does not know the option
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return _BUILDER, "fail", f"it does not run: {error}"
    version = re.search(r"^(?:\[TensorRT-LLM\] TensorRT-LLM version: )?(\d\S*)$", answer, re.M)
    if version is None:
        last = answer.strip().splitlines()[-1:]
        return _BUILDER, "fail", f"it does not say its version: {last[0] if last else 'nothing'}"
    if version[1] != PINNED_VERSION:
        detail = f"{version[1]}: the profile gpu is built by {PINNED_VERSION}; or use gpu-trt"
        return _BUILDER, "warn", detail
    return _BUILDER, "ok", version[1]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
