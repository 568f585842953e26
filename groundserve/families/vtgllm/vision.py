"""The vision stage: frames -> EVA's tokens -> the vectors of the Q-Former.

Shape letters: n frames, S their side in pixels, Q queries, the same for every frame, L tokens of a
frame's sentence, P = Q + L vectors of a frame, D their width, V tokens of the tower, D_v their
width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipQFormerEncoder,
    InstructBlipQFormerMultiHeadAttention,
)

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.clip import MEAN, STD
from groundserve.families.modules import VisionModule
from groundserve.families.vtgllm.eva import Eva, EvaConfig
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
    intermediate_size: int
    """Width between the two layers of an MLP."""
    max_position_embeddings: int
    """Rows of the table of the places of a sentence's words."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> QFormerConfig:
        """Read config.json of BERT."""
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
        """Return the arithmetic for one frame: Q, L, V and D_v; a multiply-add is 2."""
        rows, width = num_queries + num_text, self.hidden_size
        layer = 2.0 * rows * width * (4 * width + 2 * self.intermediate_size)
        layer += 4.0 * rows * rows * width
        crossing = 4.0 * num_queries * width * width + 4.0 * num_read * read_width * width
        crossing += 4.0 * num_queries * num_read * width
        num_crossings = -(-self.num_hidden_layers // _CROSS_EVERY)
        return self.num_hidden_layers * layer + num_crossings * crossing


class QFormer(nn.Module):
    """Queries, and a sentence's tokens behind them, through the layers of InstructBLIP's Q-Former.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/Qformer.py`.
    """

    def __init__(self, config: QFormerConfig, *, read_width: int, num_words: int) -> None:
        """Make it with a table of words of `num_words` rows; 0 where it reads no sentence."""
        super().__init__()
        width = config.hidden_size
        sizes = InstructBlipQFormerConfig(
            **asdict(config), encoder_hidden_size=read_width, cross_attention_frequency=_CROSS_EVERY
        )
        self.embeddings = nn.ModuleDict({"LayerNorm": nn.LayerNorm(width, eps=_EPSILON)})
        self.encoder = InstructBlipQFormerEncoder(sizes)
        if num_words:
            self.embeddings["word_embeddings"] = nn.Embedding(num_words, width)
            self.embeddings["position_embeddings"] = nn.Embedding(
                config.max_position_embeddings, width
            )
        else:
            for layer in self.layers:  # words have an MLP of their own
                del layer.intermediate, layer.output

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return cast(nn.ModuleList, self.encoder.layer)

    def forward(self, queries: Tensor, read: Tensor, text_ids: Tensor | None = None) -> Tensor:
        """Read each frame: (n, Q, D), (n, V, D_v) and words int64 (n, L), if any -> (n, P, D)."""
        rows = queries
        if text_ids is not None:
            words = self.embeddings["word_embeddings"](text_ids)
            places = torch.arange(text_ids.shape[1], device=text_ids.device)
            words = words + self.embeddings["position_embeddings"](places)
            rows = torch.cat([queries, words], dim=1)
        read_rows = self.encoder(
            self.embeddings["LayerNorm"](rows),
            encoder_hidden_states=read,
            query_length=queries.shape[1],
        )
        return cast(Tensor, read_rows.last_hidden_state)


class VisionEncoder(VisionModule):
    """EVA, a norm and the Q-Former; the question never gets here.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/vtgllm.py::encode_videoQformer_visual`.
    """

    def __init__(
        self, eva: EvaConfig, q_former: QFormerConfig, *, num_queries: int, num_words: int = 0
    ) -> None:
        """Make it of P = `num_queries`, and more where it reads a sentence of `num_words`."""
        super().__init__()
        self.visual_encoder = Eva(eva)
        # One choice of attention for both.
        self.config = self.visual_encoder.config
        self.ln_vision = nn.LayerNorm(eva.hidden_size)
        self.query_tokens = nn.Parameter(torch.empty(1, num_queries, q_former.hidden_size))
        self.q_former = QFormer(q_former, read_width=eva.hidden_size, num_words=num_words)
        for module in self.q_former.modules():
            if isinstance(module, InstructBlipQFormerMultiHeadAttention):
                module.config = self.config

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return nn.ModuleList([*self.visual_encoder.layers, *self.q_former.layers])

    def prepare_export(self) -> None:
        """Embed patches by a matrix product."""
        self.visual_encoder.patches_as_matmul = True

    def forward(self, frames: Tensor, frame_text_ids: Tensor | None = None) -> Tensor:
        """Encode frames: uint8 (n, S, S, 3), RGB -> (n, P, D) in the weights' dtype.

        Where the Q-Former reads a sentence, it is (n, L) whole numbers of any dtype.
        """
        tokens = self.see(frames)
        queries = self.query_tokens.expand(tokens.shape[0], -1, -1)
        text_ids = None if frame_text_ids is None else frame_text_ids.long()
        return cast(Tensor, self.q_former(queries, tokens, text_ids))

    def see(self, frames: Tensor) -> Tensor:
        """Return the tower's tokens of each frame, as the Q-Former reads them: (n, V, D_v)."""
        return cast(Tensor, self.ln_vision(self.visual_encoder(self._pixel_values(frames))))

    def _pixel_values(self, frames: Tensor) -> Tensor:
        """Normalise, in float32: (n, S, S, 3) -> (n, 3, S, S) in the weights' dtype."""
        mean, std = (torch.tensor(one, device=frames.device).view(3, 1, 1) for one in (MEAN, STD))
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        return ((pixels - mean) / std).to(self.ln_vision.weight.dtype)
