"""The Q-Former: queries, the same for every frame, that read what the vision tower saw of it.

Shape letters: n frames, Q queries, L tokens of a frame's sentence, R = Q + L, P tokens of the
tower, D_v their width, D width of the Q-Former, H heads, d head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.strict_json import shown
from groundserve.weights.tensors import check_num_layers

_EPSILON = 1e-12
_CROSS_EVERY = 2
"""Every second layer, from the first on, reads the tower."""


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """The geometry of a Q-Former, which is BERT's."""

    hidden_size: int
    """D."""
    num_hidden_layers: int
    num_attention_heads: int
    """H of each attention."""
    intermediate_size: int
    """Width between the two layers of an MLP."""
    max_position_embeddings: int
    """Rows of the table of the places of a sentence's words."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> QFormerConfig:
        """Read config.json of BERT.

        Raises:
            InvalidRequestError: A size is no whole number.
            UnsupportedError: It is of another model, or has another activation or epsilon.
        """
        for name, value in (
            ("model_type", "bert"),
            ("hidden_act", "gelu"),
            ("layer_norm_eps", _EPSILON),
        ):
            if raw.get(name, value) != value:
                raise UnsupportedError(
                    f"the part bert must have {name} {value}, got {shown(raw[name])}"
                )
        sizes = {name: raw.get(name) for name in cls.__dataclass_fields__}
        for name, size in sizes.items():
            if type(size) is not int or size < 1:
                raise InvalidRequestError(
                    f"the part bert: {name} in config.json must be a whole number above 0, got "
                    f"{shown(size)}"
                )
        check_num_layers(sizes["num_hidden_layers"], where="the part bert")
        config = cls(**cast(dict[str, int], sizes))
        if config.hidden_size % config.num_attention_heads:
            raise InvalidRequestError(
                f"the part bert: hidden_size {config.hidden_size} must be a multiple of "
                f"num_attention_heads, {config.num_attention_heads}"
            )
        return config

    def frame_flop(
        self, *, num_queries: int, num_text: int, num_read: int, read_width: int
    ) -> float:
        """Return the arithmetic for one frame; a multiply-add is 2.

        Args:
            num_queries: Q.
            num_text: L.
            num_read: P.
            read_width: D_v.
        """
        rows, width = num_queries + num_text, self.hidden_size
        layer = 2.0 * rows * width * (4 * width + 2 * self.intermediate_size)
        layer += 4.0 * rows * rows * width
        crossing = 4.0 * num_queries * width * width + 4.0 * num_read * read_width * width
        crossing += 4.0 * num_queries * num_read * width
        num_crossings = -(-self.num_hidden_layers // _CROSS_EVERY)
        return self.num_hidden_layers * layer + num_crossings * crossing


class QFormer(nn.Module):
    """Queries, and a sentence's tokens behind them, through BERT's layers.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/Qformer.py`. The names within are those of its
    checkpoint, below `Qformer.bert.`.
    """

    def __init__(
        self,
        config: QFormerConfig,
        attention: Any,
        *,
        read_width: int,
        num_words: int,
    ) -> None:
        """Make it.

        Args:
            config: Its geometry.
            attention: Of transformers, from which the layers read their attention.
            read_width: D_v.
            num_words: Rows of the table of words; 0 where it reads no sentence.
        """
        super().__init__()
        width = config.hidden_size
        self.embeddings = nn.ModuleDict({"LayerNorm": nn.LayerNorm(width, eps=_EPSILON)})
        if num_words:
            self.embeddings["word_embeddings"] = nn.Embedding(num_words, width)
            self.embeddings["position_embeddings"] = nn.Embedding(
                config.max_position_embeddings, width
            )
        self.encoder = nn.ModuleDict(
            {
                "layer": nn.ModuleList(
                    _Layer(
                        config,
                        attention,
                        read_width=None if number % _CROSS_EVERY else read_width,
                        reads_text=num_words > 0,
                    )
                    for number in range(config.num_hidden_layers)
                )
            }
        )

    @property
    def layers(self) -> nn.ModuleList:
        """Those that hold attention."""
        return cast(nn.ModuleList, self.encoder["layer"])

    def forward(self, queries: Tensor, read: Tensor, text_ids: Tensor | None = None) -> Tensor:
        """Read each frame.

        Args:
            queries: (n, Q, D).
            read: (n, P, D_v).
            text_ids: int64 (n, L) where it reads a sentence, all of it words.

        Returns:
            (n, R, D).
        """
        num_queries = queries.shape[1]
        rows = queries
        if text_ids is not None:
            words = self.embeddings["word_embeddings"](text_ids)
            places = torch.arange(text_ids.shape[1], device=text_ids.device)
            words = words + self.embeddings["position_embeddings"](places)
            rows = torch.cat([queries, words], dim=1)
        hidden_states = self.embeddings["LayerNorm"](rows)
        for layer in self.layers:
            hidden_states = layer(hidden_states, read, num_queries)
        return cast(Tensor, hidden_states)


class _Layer(nn.Module):
    def __init__(
        self, config: QFormerConfig, attention: Any, *, read_width: int | None, reads_text: bool
    ) -> None:
        super().__init__()
        self.attention = _Attention(config, attention, read_width=config.hidden_size)
        self.crossattention = (
            None if read_width is None else _Attention(config, attention, read_width=read_width)
        )
        # Queries and words each have an MLP of their own.
        self.intermediate_query, self.output_query = _mlp(config)
        self.intermediate: _Intermediate | None = None
        self.output: _Output | None = None
        if reads_text:
            self.intermediate, self.output = _mlp(config)

    def forward(self, hidden_states: Tensor, read: Tensor, num_queries: int) -> Tensor:
        """Return (n, R, D)."""
        hidden_states = self.attention(hidden_states, hidden_states)
        queries, words = hidden_states[:, :num_queries], hidden_states[:, num_queries:]
        if self.crossattention is not None:
            queries = self.crossattention(queries, read)
        queries = self.output_query(self.intermediate_query(queries), queries)
        if self.intermediate is None or self.output is None:
            return cast(Tensor, queries)
        return torch.cat([queries, self.output(self.intermediate(words), words)], dim=1)


class _Attention(nn.Module):
    def __init__(self, config: QFormerConfig, attention: Any, *, read_width: int) -> None:
        super().__init__()
        self.self = _Heads(config, attention, read_width=read_width)
        self.output = _Output(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, read: Tensor) -> Tensor:
        """Return (n, R, D)."""
        return cast(Tensor, self.output(self.self(hidden_states, read), hidden_states))


class _Heads(nn.Module):
    is_causal = False  # which an implementation of transformers asks for

    def __init__(self, config: QFormerConfig, attention: Any, *, read_width: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = attention
        self.num_heads = config.num_attention_heads
        self.scaling = (width // self.num_heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(read_width, width)
        self.value = nn.Linear(read_width, width)

    def forward(self, hidden_states: Tensor, read: Tensor) -> Tensor:
        """Return (n, R, D), every row having read all of `read`."""

        def heads(projected: Tensor) -> Tensor:
            # (n, *, D) -> (n, H, *, d)
            split = projected.reshape(*projected.shape[:2], self.num_heads, -1)
            return split.transpose(1, 2)

        attended, _ = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation](
            self,
            heads(self.query(hidden_states)),
            heads(self.key(read)),
            heads(self.value(read)),
            None,
            scaling=self.scaling,
        )
        return cast(Tensor, attended.flatten(2))


class _Intermediate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return (n, *, intermediate_size)."""
        return nn.functional.gelu(self.dense(hidden_states))


class _Output(nn.Module):
    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_EPSILON)

    def forward(self, hidden_states: Tensor, residual: Tensor) -> Tensor:
        """Return (n, *, D)."""
        return cast(Tensor, self.LayerNorm(self.dense(hidden_states) + residual))


def _mlp(config: QFormerConfig) -> tuple[_Intermediate, _Output]:
    width, inner = config.hidden_size, config.intermediate_size
    return _Intermediate(width, inner), _Output(inner, width)
