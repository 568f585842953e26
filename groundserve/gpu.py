"""Which GPU this process runs on."""

from __future__ import annotations


def current_gpu_arch() -> str | None:
    """Return the architecture of the GPU that PyTorch uses, such as sm_90; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"
