"""What of `tensorrt` is used: data types and the direction of an engine's tensors."""

from __future__ import annotations

import enum

import torch

__version__ = "10.14.1.48"


class DataType(enum.Enum):
    """A type and the PyTorch dtype of a tensor that goes in or out with it."""

    FLOAT = torch.float32
    HALF = torch.float16
    BF16 = torch.bfloat16
    INT32 = torch.int32
    INT64 = torch.int64

    @property
    def held(self) -> torch.dtype:
        """How the double holds it inside a network: FLOAT in 64 bits, see `__init__.py`."""
        return torch.float64 if self is DataType.FLOAT else self.value

    @classmethod
    def of(cls, value: torch.Tensor) -> DataType:
        return cls.FLOAT if value.dtype == torch.float64 else cls(value.dtype)


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


float32 = DataType.FLOAT
float16 = DataType.HALF
bfloat16 = DataType.BF16
int32 = DataType.INT32
int64 = DataType.INT64
