"""The grounding stage: features and a question -> one logit a frame."""

from python_backend.ground.base import Grounder, TokenScorer
from python_backend.ground.onnxruntime import OnnxRuntimeGrounder
from python_backend.ground.queries import (
    Questions,
    check_number,
    check_sizes,
    ground_questions,
)

__all__ = [
    "Grounder",
    "OnnxRuntimeGrounder",
    "Questions",
    "TokenScorer",
    "check_number",
    "check_sizes",
    "ground_questions",
]
