"""The grounding stage: features and a question -> one logit a frame."""

from python_backend.ground.base import Grounder, PackedGrounder, TokenScorer
from python_backend.ground.engine import EngineGrounder
from python_backend.ground.onnxruntime import OnnxRuntimeGrounder
from python_backend.ground.queries import (
    Questions,
    check_number,
    check_sizes,
    ground_questions,
)
from python_backend.ground.tensorrt import TensorRTTokenScorer
from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer
from python_backend.ground.torch import TorchGrounder

__all__ = [
    "EngineGrounder",
    "Grounder",
    "OnnxRuntimeGrounder",
    "PackedGrounder",
    "Questions",
    "TensorRTLLMTokenScorer",
    "TensorRTTokenScorer",
    "TokenScorer",
    "TorchGrounder",
    "check_number",
    "check_sizes",
    "ground_questions",
]
