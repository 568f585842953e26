"""TensorRT-LLM's Llama, re-executed from a converted checkpoint by itself, in PyTorch.

Written from `tensorrt_llm/models/llama/model.py`, `layers/{attention,mlp,embedding}.py` of
NVIDIA/TensorRT-LLM: which tensor is multiplied with what. It reads the two files and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor


class ConvertedLlama:
    """Logits of one sequence, all of it at once."""

    def __init__(self, directory: Path, *, dtype: torch.dtype = torch.float32) -> None:
        self._open(
            json.loads((directory / "config.json").read_text()),
            load_file(directory / "rank0.safetensors"),
            dtype,
        )

    @classmethod
    def of(cls, config: dict[str, Any], weights: dict[str, Tensor]) -> Self:
        """Take what the two files hold; computed in float32."""
        llama = cls.__new__(cls)
        llama._open(config, weights, torch.float32)
        return llama

    def _open(self, config: dict[str, Any], weights: dict[str, Tensor], dtype: torch.dtype) -> None:
        self.config = config
        assert self.config["architecture"] == "LlamaForCausalLM"
        assert self.config["position_embedding_type"] == "rope_gpt_neox"
        self._weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
        self._dtype = dtype

    def logits(self, input_ids: Tensor, prompt_table: Tensor) -> Tensor:
        """Return (V,) behind the last token.

        Args:
            input_ids: (S,), of which those from V on are rows of the table, counted from V.
            prompt_table: (N, D).
        """
        vocab_size = self.config["vocab_size"]
        visual = input_ids >= vocab_size
        hidden = self._weights["transformer.vocab_embedding.weight"][
            torch.where(visual, 0, input_ids)
        ]
        rows = prompt_table.to(self._dtype)[torch.where(visual, input_ids - vocab_size, 0)]
        hidden = torch.where(visual[:, None], rows, hidden)
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self._layer(hidden, f"transformer.layers.{layer}.")
        last = self._norm(hidden[-1], "transformer.ln_f.weight")
        return self._weights["lm_head.weight"] @ last

    def greedy(
        self, input_ids: Tensor, prompt_table: Tensor, *, max_new_tokens: int, end_id: int
    ) -> list[int]:
        """Return the tokens of an answer, its end token included."""
        token_ids: list[int] = []
        for token_id in islice(self.tokens(input_ids, prompt_table), max_new_tokens):
            token_ids.append(token_id)
            if token_id == end_id:
                break
        return token_ids

    def tokens(self, input_ids: Tensor, prompt_table: Tensor) -> Iterator[int]:
        """Yield the likeliest token, again and again."""
        ids = input_ids
        while True:
            token_id = int(self.logits(ids, prompt_table).argmax())
            yield token_id
            ids = torch.cat([ids, torch.tensor([token_id], dtype=ids.dtype)])

    def _layer(self, hidden: Tensor, name: str) -> Tensor:
        config = self.config
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        size = config["head_size"]
        packed = self._norm(hidden, f"{name}input_layernorm.weight") @ (
            self._weights[f"{name}attention.qkv.weight"].T
        )
        # (S, rows) -> (heads, S, size): query, key and value rows follow each other.
        query, key, value = (
            part.reshape(len(hidden), -1, size).transpose(0, 1)
            for part in packed.split([heads * size, kv_heads * size, kv_heads * size], dim=1)
        )
        query, key = self._rotate(query), self._rotate(key)
        key, value = (one.repeat_interleave(heads // kv_heads, dim=0) for one in (key, value))
        scores = query @ key.transpose(1, 2) / size**0.5
        future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        attended = scores.masked_fill(future, -torch.inf).softmax(2) @ value
        dense = self._weights[f"{name}attention.dense.weight"]
        hidden = hidden + attended.transpose(0, 1).flatten(1) @ dense.T
        normed = self._norm(hidden, f"{name}post_layernorm.weight")
        # `fc` is the branch that is activated.
        fc, gate, proj = (
            self._weights[f"{name}mlp.{one}.weight"] for one in ("fc", "gate", "proj")
        )
        return hidden + (F.silu(normed @ fc.T) * (normed @ gate.T)) @ proj.T

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        variance = hidden.pow(2).mean(-1, keepdim=True)
        epsilon = self.config["norm_epsilon"]
        return hidden * (variance + epsilon).rsqrt() * self._weights[name]

    def _rotate(self, heads: Tensor) -> Tensor:
        """Turn column i with column i + size / 2, as `rope_gpt_neox` says; (heads, S, size)."""
        half = heads.shape[2] // 2
        steps = torch.arange(half, dtype=torch.float64) / half
        angles = torch.arange(heads.shape[1])[:, None] * self.config["rotary_base"] ** -steps
        cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
        first, second = heads[..., :half], heads[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=2)
