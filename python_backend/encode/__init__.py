"""The vision stage: frames -> features."""

from python_backend.encode.base import (
    EncodeFunction,
    VisionEncoder,
    repeat_plan_inputs,
)
from python_backend.encode.onnxruntime import OnnxRuntimeEncoder
from python_backend.encode.tensorrt import TensorRTEncoder
from python_backend.encode.torch import TorchEncoder

__all__ = [
    "EncodeFunction",
    "OnnxRuntimeEncoder",
    "TensorRTEncoder",
    "TorchEncoder",
    "VisionEncoder",
    "repeat_plan_inputs",
]
