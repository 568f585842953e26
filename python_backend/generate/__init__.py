"""Stage of the text head: a prompt behind a video's block -> an answer, token by token."""

from python_backend.generate.base import Decoder, Front
from python_backend.generate.onnxruntime import OnnxRuntimeDecoder, OnnxRuntimeFront
from python_backend.generate.prefix import Prefix, embed_prompt
from python_backend.generate.questions import (
    Generated,
    Generation,
    Generator,
    OnToken,
    Turns,
    finish,
    generate,
)

__all__ = [
    "Decoder",
    "Front",
    "Generated",
    "Generation",
    "Generator",
    "OnToken",
    "OnnxRuntimeDecoder",
    "OnnxRuntimeFront",
    "Prefix",
    "Turns",
    "embed_prompt",
    "finish",
    "generate",
]
