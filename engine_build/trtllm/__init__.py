"""checkpoint -> TensorRT-LLM checkpoint -> engine: the production form of the decoder."""

from engine_build.trtllm.build import PINNED_VERSION, build_engine, check_builder
from engine_build.trtllm.limits import EngineLimits

__all__ = [
    "PINNED_VERSION",
    "EngineLimits",
    "build_engine",
    "check_builder",
]
