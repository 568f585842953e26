"""Engine directories built by the double, without a subprocess."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from engine_build.trtllm.build import build_command
from engine_build.trtllm.convert import convert_checkpoint
from engine_build.trtllm.limits import max_input_len
from groundserve.engines.profiles import Precision
from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.fake_tensorrt_llm import TENSORRT_VERSION
from tests.fake_tensorrt_llm.builder import main

GPU_ARCH = "sm_90"


class HostGpu:
    """A "GPU" in host memory that records how it is used."""

    device = torch.device("cpu")
    arch = GPU_ARCH

    def __init__(self) -> None:
        self.num_passes = 0

    def run(self, enqueue: Callable[[int], bool]) -> bool:
        self.num_passes += 1
        return enqueue(7)


def write_engine(
    checkpoint: Checkpoint,
    directory: Path,
    *,
    precision: Precision = "fp32",
) -> Path:
    """Convert and "build"."""
    converted = directory / "converted"
    converted.mkdir(parents=True)
    model = checkpoint.model_spec(pad_token_id=0)
    convert_checkpoint(
        checkpoint, converted, precision=precision, max_input_len=max_input_len(model)
    )
    engine_dir = directory / "trtllm"
    command = build_command(
        converted,
        engine_dir,
        model=model,
        precision=precision,
        timing_cache=converted / "timing.cache",
    )
    main(command[1:])
    path = engine_dir / "config.json"
    described = json.loads(path.read_text())
    described["groundserve"] = {"gpu_arch": GPU_ARCH, "tensorrt": TENSORRT_VERSION}
    path.write_text(json.dumps(described))
    return engine_dir
