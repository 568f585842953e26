"""The decoder as an engine of TensorRT-LLM."""

from engine_build.trtllm.build import PINNED_VERSION, build_engine, check_builder
from engine_build.trtllm.limits import EngineLimits

__all__ = [
    "PINNED_VERSION",
    "EngineLimits",
    "build_engine",
    "check_builder",
]
