"""What vLLM loads of ours: its entry point, which makes `vllm_decoder` known."""

from __future__ import annotations

from vllm import ModelRegistry


def register() -> None:
    """Name the decoder of `engine_build.vllm_export`; called in each of vLLM's processes."""
    ModelRegistry.register_model(
        "GroundserveDecoder", "python_backend.vllm_decoder:GroundserveDecoder"
    )
