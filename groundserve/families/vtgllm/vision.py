"""The vision stage: frames -> EVA's tokens -> the vectors of the Q-Former.

Shape letters: n frames, S their side in pixels, L tokens of a frame's sentence, P vectors of a
frame (queries, and tokens of the sentence), D their width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipQFormerMultiHeadAttention,
)

from groundserve.families.clip import MEAN, STD
from groundserve.families.modules import VisionModule
from groundserve.families.vtgllm.eva import Eva, EvaConfig
from groundserve.families.vtgllm.q_former import QFormer, QFormerConfig


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
        """Encode frames.

        Args:
            frames: uint8 (n, S, S, 3), RGB.
            frame_text_ids: (n, L), whole numbers of any dtype, where the Q-Former reads a sentence.

        Returns:
            (n, P, D) in the weights' dtype.
        """
        tokens = self.ln_vision(self.visual_encoder(self._pixel_values(frames)))
        queries = self.query_tokens.expand(tokens.shape[0], -1, -1)
        text_ids = None if frame_text_ids is None else frame_text_ids.long()
        return cast(Tensor, self.q_former(queries, tokens, text_ids))

    def _pixel_values(self, frames: Tensor) -> Tensor:
        """Normalise, in float32: (n, S, S, 3) -> (n, 3, S, S) in the weights' dtype."""
        mean, std = (torch.tensor(one, device=frames.device).view(3, 1, 1) for one in (MEAN, STD))
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        return ((pixels - mean) / std).to(self.query_tokens.dtype)
