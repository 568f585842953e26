"""Stage of the text head: a prompt behind a video's block -> an answer, token by token."""

from python_backend.generate.base import Decoder, Front, Past
from python_backend.generate.onnxruntime import OnnxRuntimeDecoder, OnnxRuntimeFront
from python_backend.generate.prefix import Prefix, embed_prompt
from python_backend.generate.questions import (
    Generated,
    Generation,
    OnToken,
    Turns,
    answer_questions,
    finish,
    generate,
)
from python_backend.generate.torch import TorchDecoder, TorchFront

__all__ = [
    "Decoder",
    "Front",
    "Generated",
    "Generation",
    "OnToken",
    "OnnxRuntimeDecoder",
    "OnnxRuntimeFront",
    "Past",
    "Prefix",
    "TorchDecoder",
    "TorchFront",
    "Turns",
    "answer_questions",
    "embed_prompt",
    "finish",
    "generate",
]
