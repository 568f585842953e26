"""A Llama whose rotation is read from its checkpoint, and whose head may have a bias.

Imported by vLLM alone, in its environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.platforms import current_platform

_ROTATION = "rotation"
"""Tensor (C, d): cos, then sin, of each position, as `engine_build.vllm_export` writes it."""


class GroundserveDecoder(LlamaForCausalLM):  # type: ignore[misc]  # has no types here
    """Differs from vLLM's Llama in the table of cos and sin, and in the head's bias."""

    lm_head: Any

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
        """Make the layers; weights come later."""
        if current_platform.is_cpu():
            from python_backend.vllm_seeds import keep_generators

            keep_generators()
        super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
        config = self.config
        if config.head_bias and isinstance(self.lm_head, ParallelLMHead):
            self.lm_head = ParallelLMHead(
                config.vocab_size,
                config.hidden_size,
                bias=True,
                quant_config=vllm_config.quant_config,
                prefix=f"{prefix}.lm_head" if prefix else "lm_head",
            )

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return (S, V)."""
        logits: torch.Tensor | None = self.logits_processor(
            self.lm_head, hidden_states, getattr(self.lm_head, "bias", None)
        )
        return logits

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Read all tensors; the rotation goes where vLLM keeps the one that it computed."""
        loaded: set[str] = super().load_weights(self._without_rotation(weights))
        return loaded

    def _without_rotation(
        self, weights: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            if name != _ROTATION:
                yield name, tensor
                continue
            for module in self.modules():
                if (table := getattr(module, "cos_sin_cache", None)) is not None:
                    table.copy_(tensor)  # of another shape it raises
