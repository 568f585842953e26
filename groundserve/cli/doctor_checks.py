"""What `groundserve doctor` looks at beside a checkpoint; every check yields rows."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.cli.doctor_gpu import check_backends, check_gpu_software
from groundserve.engines.manifest import REPOSITORY_NAME, Manifest
from groundserve.errors import GroundserveError, InvalidRequestError, UnavailableError
from groundserve.families.base import FindingRow
from groundserve.families.transformers_version import OLDEST_MAJOR, is_new_enough
from groundserve.limits import GIB, MIB, Limits
from groundserve.records import read_records
from groundserve.runtime.instructions import int8_instructions

if TYPE_CHECKING:
    from groundserve.serving.memory import MemoryNeeds

# Extra -> the modules it brings.
_EXTRAS = {
    "serve": ("av", "matplotlib", "onnxruntime", "PIL", "pytriton", "rich", "tokenizers"),
    "build": ("huggingface_hub", "onnx", "onnxscript", "safetensors", "torch", "transformers"),
    "train": ("av", "PIL", "pyarrow", "sklearn", "tensorboard", "torch", "transformers"),
    "batch": ("fsspec", "jinja2", "matplotlib", "pyarrow", "ray"),
}
_GPUS = Path("/proc/driver/nvidia/gpus")


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
    yield from _server_rows(num_gpus)
    yield _shared_memory_room()
    yield (
        "NVIDIA GPU",
        "ok",
        f"{num_gpus} found" if num_gpus else "none; profiles cpu and torch work",
    )
    if num_gpus:
        yield from check_gpu_software()
    yield "cores", "ok", str(os.cpu_count())
    yield _int8_row()


def check_engines(engine_dir: Path) -> Iterator[FindingRow]:
    """Yield what serving an engine directory takes besides weights and activations.

    Raises:
        InvalidRequestError: There is no engine directory.
        EngineMismatchError: The directory cannot be read, or a model's configuration is missing or
            changed.
    """
    from groundserve.serving.memory import memory_needs, read_configs

    manifest = Manifest.load(engine_dir)
    # These alone are read here; hashing the weights takes minutes.
    configs_listed = {
        name: digest for name, digest in manifest.files.items() if name.endswith("/config.pbtxt")
    }
    replace(manifest, files=configs_listed).verify_files(engine_dir)
    yield "engines", "ok", f"profile {manifest.profile}, {manifest.precision} on {manifest.device}"
    configs = read_configs(engine_dir / REPOSITORY_NAME)
    memory = memory_needs(manifest.seam, manifest.model, configs, Limits.from_environment())
    yield _shared_memory_need(memory)
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


def _shared_memory_room() -> FindingRow:
    from groundserve.serving.memory import free_bytes
    from groundserve.serving.run_folder import SHM_DIR

    free = free_bytes()
    # The least that any engines need.
    enough = free >= Limits.from_environment().max_upload_bytes
    detail = f"{free // MIB} MiB free; --engines says how many a server of these needs"
    return str(SHM_DIR), "ok" if enough else "warn", detail


def _shared_memory_need(memory: MemoryNeeds) -> FindingRow:
    from groundserve.serving.memory import check_room
    from groundserve.serving.run_folder import SHM_DIR

    try:
        needed = check_room(memory.all_regions_bytes)
    except UnavailableError as error:
        return "shared memory", "fail", str(error)
    return "shared memory", "ok", f"these engines need {needed} MiB of {SHM_DIR}"


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


def _server_rows(num_gpus: int) -> Iterator[FindingRow]:
    from groundserve.serving.installation import find_installation

    try:
        installation = find_installation()
    except GroundserveError as error:
        yield "tritonserver", "warn", str(error)
        return
    yield "tritonserver", "ok", str(installation.executable)
    yield check_backends(installation, num_gpus=num_gpus)


def _int8_row() -> FindingRow:
    instructions = int8_instructions()
    if instructions is None:
        return "int8", "ok", "no instructions for it: precision int8 is exact, but little is saved"
    return "int8", "ok", f"{instructions}: precision int8 of the profile cpu is fast here"
