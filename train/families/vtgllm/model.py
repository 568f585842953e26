"""What is trained of VTG-LLM, and the tower before it.

Shape letters: T frames, V tokens of the tower for one, D_v their width, Q queries, D width of the
Q-Former's vectors, N rows of the block, H width of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from groundserve.families.llama import empty_llama
from groundserve.families.rotary import RotaryTables
from groundserve.families.vtgllm.checkpoint import FRONT_NAMES
from groundserve.families.vtgllm.config import VTGLLMConfig
from groundserve.families.vtgllm.eva import EvaConfig
from groundserve.families.vtgllm.front import Front
from groundserve.families.vtgllm.state import ADAPTED, WRAPPED
from groundserve.families.vtgllm.vision import QFormerConfig, VisionEncoder
from train.config import StageConfig
from train.examples import Example
from train.families.text_model import ADAPTER, TextModel, add_adapters, peft_name, train_only

QUERY_DROPOUT = 0.1
"""BERT's, behind the norm of embeddings, which serving leaves out."""
_TRAINED = ("front.", "decoder.embed_tokens.", "lm_head.")
_Q_FORMER, _POOL = "front.q_former.", "front.pool."


class Tower(nn.Module):
    """What is frozen: EVA and the norm behind it."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config

    def forward(self, frames: Tensor) -> Tensor:
        """Encode uint8 (T, S, S, 3) -> (T, V, D_v)."""
        return self.encoder.see(frames)


class VideoFront(nn.Module):
    """The Q-Former with its queries, and what serving has as its front."""

    def __init__(self, encoder: VisionEncoder, pool: Front) -> None:
        super().__init__()
        self.query_tokens = encoder.query_tokens
        self.q_former = encoder.q_former
        self.dropout = nn.Dropout(QUERY_DROPOUT)
        self.pool = pool

    def forward(self, features: Tensor, seconds: Tensor) -> Tensor:
        """Make the block: (T, V, D_v), and (T,) the second of each frame -> (N, H)."""
        queries = self.query_tokens.expand(features.shape[0], -1, -1)
        read = self.q_former.encoder(
            self.dropout(self.q_former.embeddings["LayerNorm"](queries)),
            encoder_hidden_states=features,
            query_length=queries.shape[1],
        ).last_hidden_state  # (T, Q, D)
        # Nothing scales a slot's logits down: 16 bits would round them by more than one.
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, self.pool(read, seconds))


class Model(TextModel):
    """Front and decoder."""

    front: VideoFront

    def float32_parts(self) -> Sequence[nn.Module]:
        """Return what pools the vectors."""
        return (self.front.pool,)

    def visual(self, example: Example, features: Tensor) -> Tensor:
        """Return the video's block, whose front is told the frames' seconds."""
        (seconds,) = example.front_arrays
        return cast(Tensor, self.front(features, torch.from_numpy(seconds).to(features.device)))

    def file_name(self, parameter: str) -> str:
        """Return the name in the reference's `.pth`."""
        if parameter.startswith(_Q_FORMER):
            own = parameter.removeprefix(_Q_FORMER)
            return "Qformer.bert." + own.replace("attention.attention.", "attention.self.")
        if parameter.startswith(_POOL):
            own = parameter.removeprefix(_POOL)
            return {ours: theirs for theirs, ours in FRONT_NAMES.items()}.get(own, own)
        if parameter.startswith("front."):
            return parameter.removeprefix("front.")
        name = peft_name(parameter)
        layer, _, kind = name.rpartition(".")
        if layer.endswith(ADAPTED):
            name = f"{layer}.base_layer.{kind}"
        return WRAPPED + name


def empty_model(
    config: StageConfig,
    decoder: Any,
    *,
    described: VTGLLMConfig,
    eva: EvaConfig,
    q_former: QFormerConfig,
) -> tuple[Model, VisionEncoder]:
    """Return a stage's model on the meta device, in which what it trains requires a gradient.

    The encoder has the model's Q-Former, and the frozen tower before it.
    """
    assert config.adapter is not None, "checked by the source"
    causal = empty_llama(decoder, where="the part base")
    # Filled while bfloat16 is the default, as the reference does.
    causal.model.rotary_emb = RotaryTables.of(decoder, rounding=torch.bfloat16)
    with torch.device("meta"):
        encoder = VisionEncoder(eva, q_former, num_queries=described.num_query_token)
        pool = Front(
            num_frames=described.max_frame_pos,
            num_time_rows=described.max_time_pos,
            sampler="slot",
            num_slots=described.sample_num,
            feature_width=q_former.hidden_size,
            hidden_size=decoder.hidden_size,
        )
        model = Model(VideoFront(encoder, pool), causal)
    add_adapters(model.decoder, config.adapter, ADAPTED)
    train_only(model, (*_TRAINED, ADAPTER) if config.adapter.is_trained else _TRAINED)
    return model, encoder
