"""The GPU this process runs on, and what libraries for it need of the environment."""

from __future__ import annotations

from groundserve import extras

MPI_ENVIRONMENT = {"OMPI_MCA_ess_singleton_isolated": "1", "PMIX_MCA_gds": "hash"}
"""Importing tensorrt_llm initialises MPI, here in a process that no mpirun started. Isolated: as
one process of its own, without the daemon (orted) that Open MPI would start and wait for. "hash":
its key store in ordinary memory, not in shared files, which fail to initialise in a model's process
(triton-inference-server/tensorrtllm_backend#553). Values that are set already win."""


def current_gpu_arch() -> str | None:
    """Return the architecture of the GPU that PyTorch uses, such as sm_90; None without a GPU."""
    if not extras.torch.cuda.is_available():
        return None
    major, minor = extras.torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"
