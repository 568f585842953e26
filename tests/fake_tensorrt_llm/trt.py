"""What of `tensorrt` is used: data types and the direction of an engine's tensors."""

from __future__ import annotations

import enum

import torch

__version__ = "10.14.1.48"


class DataType(enum.Enum):
    FLOAT = torch.float32
    HALF = torch.float16
    BF16 = torch.bfloat16
    INT32 = torch.int32
    INT64 = torch.int64


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


float32 = DataType.FLOAT
float16 = DataType.HALF
bfloat16 = DataType.BF16
int32 = DataType.INT32
int64 = DataType.INT64


def to_dtype(dtype: str | DataType) -> DataType:
    return DataType(getattr(torch, dtype)) if isinstance(dtype, str) else dtype
