"""A precision in PyTorch's words."""

from __future__ import annotations

import torch

from groundserve.profiles import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def torch_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype that a precision names."""
    return _DTYPES[precision]
