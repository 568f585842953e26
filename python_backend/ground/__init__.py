"""The grounding stage: pooled features and a question -> one logit a frame."""

from python_backend.ground.base import Grounder
from python_backend.ground.onnxruntime import OnnxRuntimeGrounder
from python_backend.ground.queries import Questions, ground_questions
from python_backend.ground.torch import TorchGrounder

__all__ = ["Grounder", "OnnxRuntimeGrounder", "Questions", "TorchGrounder", "ground_questions"]
