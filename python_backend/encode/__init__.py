"""The vision stage: frames -> pooled features."""

from python_backend.encode.base import VisionEncoder
from python_backend.encode.onnxruntime import OnnxRuntimeEncoder
from python_backend.encode.torch import TorchEncoder

__all__ = ["OnnxRuntimeEncoder", "TorchEncoder", "VisionEncoder"]
