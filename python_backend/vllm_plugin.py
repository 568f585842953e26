"""What vLLM loads of ours: its entry point, which makes `vllm_decoder` known.

On a CPU, vLLM 0.32 starts three processes, each of which takes 7 s to import it, so that it can
bind the third one's threads to cores. Where none are bound, two do, the second a fork of the first.

Source: `vllm/platforms/cpu.py`, `check_and_update_config`.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

from vllm import ModelRegistry
from vllm.platforms import current_platform


def register() -> None:
    """Name the decoder of `engine_build.vllm_export`; called in each of vLLM's processes."""
    ModelRegistry.register_model(
        "GroundserveDecoder", "python_backend.vllm_decoder:GroundserveDecoder"
    )
    if current_platform.is_cpu() and os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
        _fork_one_process()


def _fork_one_process() -> None:
    update = current_platform.check_and_update_config

    def update_and_fork(config: Any) -> None:
        is_single = config.parallel_config.distributed_executor_backend == "uni"
        update(config)
        if is_single:
            config.parallel_config.distributed_executor_backend = "uni"
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    current_platform.check_and_update_config = update_and_fork
    # It has the first one's socket, too: left alone, it would let callers in whom nobody answers.
    prctl = ctypes.CDLL(None).prctl
    os.register_at_fork(after_in_child=lambda: prctl(1, signal.SIGKILL))  # PR_SET_PDEATHSIG
