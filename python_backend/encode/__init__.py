"""The vision stage: frames -> features."""

from python_backend.encode.base import (
    EncodeFunction,
    VisionEncoder,
    repeat_plan_inputs,
)
from python_backend.encode.onnxruntime import OnnxRuntimeEncoder

__all__ = [
    "EncodeFunction",
    "OnnxRuntimeEncoder",
    "VisionEncoder",
    "repeat_plan_inputs",
]
