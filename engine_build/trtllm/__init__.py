"""VideoITG's decoder as an engine of TensorRT-LLM 1.2.1, the last release that has engines."""

from engine_build.trtllm.build import PINNED_VERSION, build_engine, check_builder

__all__ = ["PINNED_VERSION", "build_engine", "check_builder"]
