"""The decode stage: segments of a video -> frames of the model's size."""

from python_backend.decode.base import DecodedFrames, FrameDecoder
from python_backend.decode.dali import DaliDecoder
from python_backend.decode.pyav import PyAVDecoder

__all__ = ["DaliDecoder", "DecodedFrames", "FrameDecoder", "PyAVDecoder"]
