"""What is trained of Grounded-VideoLLM, and the towers before it.

Shape letters as in `groundserve.families.grounded_videollm.vision`; K values of a segment.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundserve.families.grounded_videollm.decoder import empty_decoder, projector_names
from groundserve.families.grounded_videollm.vision import (
    VisionConfig,
    VisionEncoder,
    new_projectors,
)
from groundserve.families.rotary import RotaryTables
from train.config import StageConfig
from train.families.text_model import ADAPTER, TextModel, add_adapters, peft_name, train_only

MAX_LEFT_OUT = 0.25
"""How often a branch of InternVideo2's last block is left out in training; of the first, never.
Source: WHB139426/Grounded-Video-LLM e26da4e, `models/internvideo2.py`."""
PEFT = "language_model.base_model.model."
"""Before each name of the decoder's in a stage's file."""
_TRAINED = ("front.spatial.projector.", "front.temporal_projector.")
_TRAINED_OF_DECODER = ("decoder.embed_tokens.", "lm_head.", ADAPTER)


class Towers(nn.Module):
    """What is frozen: a segment's patches and pooled tokens, side by side in one row."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.leaves_out_branches = False
        """Whether branches of InternVideo2's blocks are left out by chance, each in a segment by
        itself, as in the reference, which trains with its frozen tower in training mode."""
        blocks = encoder.internvideo2.blocks
        # One block more is in the file, and not computed.
        rates = torch.linspace(0, MAX_LEFT_OUT, len(blocks) + 1).tolist()
        for block, rate in zip(blocks, rates, strict=False):
            for name in ("ls1", "ls2"):
                branch = block.get_submodule(name)
                branch.register_forward_hook(partial(self._leave_out, rate))

    def _leave_out(self, rate: float, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept = F.dropout(output.new_ones(len(output), 1, 1), rate, self.leaves_out_branches)
        return output * kept

    def forward(self, temporal_pixels: Tensor, spatial_pixels: Tensor) -> Tensor:
        """Encode uint8 (U, F, S, S, 3) and (U, S, S, 3) -> (U, 1, K)."""
        patches, temporal = self.encoder.see(temporal_pixels, spatial_pixels)
        return torch.cat((patches.flatten(1), temporal.flatten(1)), dim=1)[:, None]


class Front(nn.Module):
    """Both projectors; of `spatial` what stands between tokens is frozen."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.spatial, self.temporal_projector = new_projectors(config)
        self._shapes = feature_shapes(config)

    def forward(self, features: Tensor) -> Tensor:
        """Project what `Towers` gave: (U, 1, K) -> (U * P, D)."""
        sizes = [rows * width for rows, width in self._shapes]
        patches, temporal = (
            torch.unflatten(one, 1, shape)
            for one, shape in zip(torch.split(features[:, 0], sizes, 1), self._shapes, strict=True)
        )
        spatial, terminator = self.spatial(patches)
        tokens = torch.cat((spatial, self.temporal_projector(temporal), terminator), dim=1)
        return tokens.flatten(0, 1)


def feature_shapes(config: VisionConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return rows and width of a segment's patches, and of its pooled tokens."""
    return (
        (config.clip.side**2, config.clip.hidden_size),
        (config.num_temporal_tokens, config.internvideo2.hidden_size),
    )


class Model(TextModel):
    """Projectors and decoder."""

    def __init__(self, front: Front, causal: Any, config: VisionConfig) -> None:
        super().__init__(front, causal)
        self._names = {
            theirs: f"front.{ours}" for theirs, ours in projector_names(config.llm).items()
        }

    def positions(self, num_positions: int) -> dict[str, Tensor]:
        """Choose among frequencies by the length of the padded batch, as the reference does."""
        tables: RotaryTables = self.decoder.rotary_emb
        regime = tables.regime(num_positions)
        place = self.lm_head.weight.device
        return {"position_ids": tables.position_ids(0, num_positions, regime=regime).to(place)}

    def file_name(self, parameter: str) -> str:
        """Return the name in a stage's file, with its module's in front."""
        for theirs, ours in self._names.items():
            if parameter.startswith(ours):
                return theirs + parameter.removeprefix(ours)
        return f"{PEFT}{peft_name(parameter)}"


def empty_model(config: StageConfig, decoder: Any, vision: VisionConfig) -> Model:
    """Return a stage's model on the meta device, in which what it trains requires a gradient."""
    has_bias = config.adapter is not None
    causal = empty_decoder(decoder, vision.llm, angles="float32", head_bias=has_bias)
    with torch.device("meta"):
        model = Model(Front(vision), causal, vision)
    if config.adapter is not None:
        add_adapters(model.decoder, config.adapter)
    train_only(model, _TRAINED if config.adapter is None else _TRAINED + _TRAINED_OF_DECODER)
    return model
