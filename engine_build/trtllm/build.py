"""Run `trtllm-build` on a converted checkpoint, with every flag chosen."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine_build.trtllm.convert import ARCHITECTURE, CONFIG_NAME, convert_checkpoint, dtype_name
from engine_build.trtllm.limits import max_input_len, opt_num_tokens
from groundserve.engines.profiles import Precision
from groundserve.errors import UnavailableError, UnsupportedError
from groundserve.families.base import FamilyCheckpoint, ModelSpec
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.runtime.gpu import MPI_ENVIRONMENT, current_gpu_arch

logger = logging.getLogger(__name__)

# The last release that builds and runs TensorRT engines (docs/gpu.md).
PINNED_VERSION = "1.2.1"
CONTAINER = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"
# What the engine's own config.json does not say, under this key of it.
_EXTRA_KEY = "groundserve"

_PROGRAM = "trtllm-build"
# The kernels' word for attention that materialises its scores: 30 GB for a sequence of 13,000.
_UNFUSED = "Fall back to unfused MHA"
_SHOWN_LINES = 20
# A build of the released model takes minutes; one that waits for a device that hangs, for ever.
_MAX_BUILD_SECONDS = 6 * 3600.0


def build_engine(
    checkpoint: FamilyCheckpoint,
    engine_dir: Path,
    *,
    model: ModelSpec,
    precision: Precision,
    timing_cache: Path | None = None,
) -> None:
    """Build the decoder's engine for the GPU of this machine.

    Writes `rank0.engine`, and `config.json` with the versions and the GPU architecture added.

    fp16 is for comparisons: a large decoder may overflow in it. A timing cache is read when it
    exists and written after the build.

    Raises:
        UnsupportedError: The checkpoint is another family's, this machine cannot build it, fused
            attention does not exist for the model, or the builder failed.
        UnavailableError: The builder did not end in time.
    """
    if not isinstance(checkpoint, Checkpoint):
        raise UnsupportedError("only videoitg has a TensorRT-LLM engine; choose the profile gpu")
    program = check_builder()
    gpu_arch = _gpu_arch()
    engine_dir.mkdir(parents=True, exist_ok=True)
    # Beside the engine: 15 GB of weights may not fit where temporary files usually go.
    with tempfile.TemporaryDirectory(dir=engine_dir.parent, prefix=".trtllm-") as folder:
        converted = Path(folder)
        convert_checkpoint(
            checkpoint, converted, precision=precision, max_input_len=max_input_len(model)
        )
        command = build_command(
            converted,
            engine_dir,
            model=model,
            precision=precision,
            timing_cache=timing_cache or converted / "timing.cache",
            program=program,
        )
        _run(command)
    _complete_config(engine_dir / CONFIG_NAME, gpu_arch=gpu_arch)


def check_builder() -> str:
    """Return the path of `trtllm-build`, which must be installed and of this release."""
    # By the package's version and the program on PATH: either may be another installation's.
    program = shutil.which(_PROGRAM)
    try:
        version = importlib.metadata.version("tensorrt_llm")
    except importlib.metadata.PackageNotFoundError:
        found = "is not installed here"
    else:
        if version == PINNED_VERSION and program is not None:
            return program
        found = f"is {version} here" if program is not None else f"has no {_PROGRAM} on PATH"
    raise UnsupportedError(
        f"this engine is built by TensorRT-LLM {PINNED_VERSION}, which {found}; build in the "
        f"container {CONTAINER}, or choose the profile gpu"
    )


def build_command(
    checkpoint_dir: Path,
    engine_dir: Path,
    *,
    model: ModelSpec,
    precision: Precision,
    timing_cache: Path,
    program: str = _PROGRAM,
) -> list[str]:
    """Return the command line; docs/gpu.md says why each flag has its value."""
    dtype, longest = dtype_name(precision), max_input_len(model)
    flags = {
        "checkpoint_dir": checkpoint_dir,
        "output_dir": engine_dir,
        "model_cls_file": Path(__file__).with_name("model.py"),
        "model_cls_name": ARCHITECTURE,
        "max_batch_size": 1,
        "max_beam_width": 1,
        "max_input_len": longest,
        "max_seq_len": longest,
        "max_num_tokens": longest,
        "opt_num_tokens": opt_num_tokens(model),
        "kv_cache_type": "disabled",
        "remove_input_padding": "enable",
        "context_fmha": "enable",
        "gpt_attention_plugin": dtype,
        "gemm_plugin": dtype,
        "use_paged_context_fmha": "disable",
        "use_fp8_context_fmha": "disable",
        "use_fused_mlp": "enable",
        "input_timing_cache": timing_cache,
        # Always given: by default the builder writes `model.cache` where it was started from, and
        # where it may not write that, a build fails after it is done and before it is saved.
        "output_timing_cache": timing_cache,
        "workers": 1,
        "log_level": "info",
    }
    command = [program]
    for name, value in flags.items():
        command += [f"--{name}", str(value)]
    return command


def check_log(log: str) -> None:
    """Refuse a build whose log says that attention is not fused."""
    line = next((line for line in log.splitlines() if _UNFUSED in line), None)
    if line is not None:
        raise UnsupportedError(
            f"TensorRT-LLM has no fused attention for this model on this GPU ({line.strip()}); "
            "without it a long video does not fit in memory; choose the profile gpu"
        )


def _run(command: Sequence[str]) -> None:
    """Run the builder with its kernels' warnings in the log, and read that log."""
    logger.info("running %s", shlex.join(command))
    try:
        finished = _wait(command)
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            f"{_PROGRAM} did not end within {_MAX_BUILD_SECONDS / 3600:g} hours and was ended"
        ) from None
    logger.debug("%s", finished.stdout)
    check_log(finished.stdout)
    if finished.returncode:
        shown = "\n".join(finished.stdout.splitlines()[-_SHOWN_LINES:])
        raise UnsupportedError(f"{_PROGRAM} ended with code {finished.returncode}:\n{shown}")


def _wait(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What the builder and its libraries print is of no certain encoding.
        errors="replace",
        check=False,
        env={**MPI_ENVIRONMENT, **os.environ, "TLLM_LOG_LEVEL": "INFO"},
        timeout=_MAX_BUILD_SECONDS,
    )


def _complete_config(path: Path, *, gpu_arch: str) -> None:
    """Add what an engine is tied to and its config does not say."""
    import tensorrt

    config = json.loads(path.read_text("utf-8"))
    if config["version"] != PINNED_VERSION:
        raise UnsupportedError(
            f"{_PROGRAM} must be of TensorRT-LLM {PINNED_VERSION}, the one on PATH is of "
            f"{config['version']}; build in the container {CONTAINER}"
        )
    config[_EXTRA_KEY] = {"gpu_arch": gpu_arch, "tensorrt": tensorrt.__version__}
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _gpu_arch() -> str:
    gpu_arch = current_gpu_arch()
    if gpu_arch is None:
        raise UnsupportedError(f"{_PROGRAM} builds for the GPU of this machine, which has none")
    return gpu_arch
