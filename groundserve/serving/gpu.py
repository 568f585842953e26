"""What an engine directory for a GPU needs of the machine and of the server."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from groundserve.errors import EngineMismatchError
from groundserve.manifest import Manifest
from groundserve.serving.installation import TritonInstallation


def check_gpu(
    manifest: Manifest,
    installation: TritonInstallation,
    *,
    load_library: Callable[[str], Any] = ctypes.CDLL,
) -> None:
    """Refuse engines for a GPU where none can be used, before a server fails to load them.

    Raises:
        EngineMismatchError: There is no driver or no GPU, or the server is not one for GPUs.
    """
    if manifest.device == "cpu":
        return
    engine = f"the engine directory (profile {manifest.profile}) runs on an NVIDIA GPU"
    rebuild = "or build one for this machine with: groundserve build --profile cpu"
    try:
        status, count = count_gpus(load_library=load_library)
    except OSError as error:
        raise EngineMismatchError(
            f"{engine}, this machine has no driver (libcuda.so.1); serve it where there is one "
            f"(with Docker: --gpus), {rebuild}"
        ) from error
    if count < 1:
        raise EngineMismatchError(
            f"{engine}, the driver finds {count} (status {status}); see nvidia-smi and "
            f"CUDA_VISIBLE_DEVICES, {rebuild}"
        )
    if installation.is_wheel:
        raise EngineMismatchError(
            f"{engine}; the Triton server in the nvidia-pytriton wheel has no TensorRT backend and "
            "is not known to serve from GPUs: use the container of deploy/Dockerfile, whose "
            f"tritonserver is on PATH, {rebuild}"
        )


def count_gpus(*, load_library: Callable[[str], Any] = ctypes.CDLL) -> tuple[int, int]:
    """Initialise CUDA and return its status, 0 for success, and how many GPUs it may use.

    Raises:
        OSError: There is no driver.
    """
    # The driver itself: neither PyTorch nor a toolkit need be installed to serve plans.
    driver = load_library("libcuda.so.1")
    count = ctypes.c_int(0)
    # 0 is CUDA_SUCCESS; the first call that fails tells why.
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return status, count.value
