"""Seeded causal decoders, and what is asked of them: what the benchmarks of generation share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from engine_build.decoder_export import (
    export_decoder,
    export_front,
    write_token_embeddings,
)
from groundserve.deadline import Deadline
from groundserve.families.modules import FrontModule
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.manifest import DECODER_GRAPH_NAME
from groundserve.options import AnswerOptions
from groundserve.profiles import Precision
from python_backend.generate import (
    Decoder,
    Front,
    Generation,
    OnnxRuntimeDecoder,
    OnnxRuntimeFront,
    Prefix,
    TorchDecoder,
    TorchFront,
    answer_questions,
    embed_prompt,
    finish,
)
from python_backend.meter import Counts

FEATURE_WIDTH = 768
_SEED = 20261123
_TEXT_BEFORE = 35
"""Tokens before the video in VTimeLLM's prompts."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a decoder in the form of Llama."""

    num_layers: int
    """Layers."""
    width: int
    """H; heads are 64 wide."""
    vocab_size: int = 32_000
    """V, Llama's."""
    max_positions: int = 4096
    """Positions, Llama's."""

    @property
    def intermediate_size(self) -> int:
        """Of the MLP: 8/3 of the width, as in Llama, in whole multiples of 64."""
        return -(-self.width * 8 // (3 * 64)) * 64

    def make(self) -> LlamaForCausalLM:
        """Return the decoder, in float32, with random weights."""
        config = LlamaConfig(
            hidden_size=self.width,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.width // 64,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            max_position_embeddings=self.max_positions,
        )
        torch.manual_seed(_SEED)
        return LlamaForCausalLM(config).eval().requires_grad_(False)


class Projector(FrontModule):
    """A linear layer, as VTimeLLM's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURE_WIDTH, width)

    def forward(self, features: Tensor) -> Tensor:
        """(U, P, D) -> (U * P, H)."""
        block: Tensor = self.linear(features.flatten(0, 1))
        return block


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A front with its decoder."""

    front: Front
    """Of the video and of text."""
    decoder: Decoder
    """The decoder."""


def open_torch(model: LlamaForCausalLM) -> Engine:
    """Return what profile `torch` runs."""
    table = model.get_input_embeddings()
    return Engine(front=TorchFront(_projector(model), table), decoder=TorchDecoder(model))


def open_onnx(
    model: LlamaForCausalLM, folder: Path, *, precision: Precision, num_threads: int
) -> Engine:
    """Export to a folder, which may exist, and return what profile `cpu` runs."""
    front, table, decoder = folder / "front.onnx", folder / "table.npy", folder / precision
    if not front.exists():
        folder.mkdir(exist_ok=True)
        export_front(_projector(model), front, feature_width=FEATURE_WIDTH)
        write_token_embeddings(model.get_input_embeddings(), table)
    export_decoder(model, decoder, precision=precision)
    return Engine(
        front=OnnxRuntimeFront(front, table, num_threads=num_threads),
        decoder=OnnxRuntimeDecoder(decoder / DECODER_GRAPH_NAME, num_threads=num_threads),
    )


def random_features(num_frames: int) -> NDArray[np.float32]:
    """Return (T, 1, D)."""
    random = np.random.default_rng(_SEED)
    return random.normal(size=(num_frames, 1, FEATURE_WIDTH)).astype(np.float32)


def random_prompts(size: Size, *, num_questions: int, num_tokens: int) -> list[Prompt]:
    """Return questions of so many tokens each, behind a text of VTimeLLM's length and a video."""
    random = np.random.default_rng(_SEED)
    prefix = [*random.integers(3, size.vocab_size, _TEXT_BEFORE).tolist(), VISUAL_TOKEN_ID]
    return [
        Prompt(
            token_ids=np.array(
                [*prefix, *random.integers(3, size.vocab_size, num_tokens).tolist()]
            ),
            num_prefix=len(prefix),
        )
        for _ in range(num_questions)
    ]


def num_frames_of(prefix_tokens: int) -> int:
    """Return how many frames, a token each, make a prefix so long."""
    return prefix_tokens - _TEXT_BEFORE


def answer(
    engine: Engine,
    features: NDArray[np.float32],
    prompts: list[Prompt],
    *,
    max_new_tokens: int,
    meter: Counts,
) -> Generation:
    """Answer with as many tokens as may be: nothing ends an answer earlier."""
    return finish(
        answer_questions(
            features,
            (),
            prompts,
            AnswerOptions(max_new_tokens=max_new_tokens),
            front=engine.front,
            decoder=engine.decoder,
            end_ids=frozenset(),
            deadline=_no_deadline(),
            meter=meter,
        )
    )


def begin(engine: Engine, features: NDArray[np.float32], prompt: Prompt, *, room: int) -> Prefix:
    """Compute what a prompt has in front of its question."""
    block = engine.front.embed_video(features, ())
    return Prefix.compute(
        embed_prompt(prompt.prefix_ids, [block], engine.front),
        room=room,
        regime=0,
        decoder=engine.decoder,
        front=engine.front,
        deadline=_no_deadline(),
    )


def describe(size: Size, model: nn.Module) -> dict[str, Any]:
    """Return what a report says of a decoder."""
    linear = sum(one.weight.numel() for one in model.modules() if isinstance(one, nn.Linear))
    return {
        **asdict(size),
        "intermediate_size": size.intermediate_size,
        "parameters": sum(one.numel() for one in model.parameters()),
        "parameters_of_linear_layers": linear,
        "weights": f"random, seed {_SEED}",
    }


def _no_deadline() -> Deadline:
    return Deadline.after(24 * 3600.0)


def _projector(model: LlamaForCausalLM) -> Projector:
    torch.manual_seed(_SEED)
    return Projector(model.config.hidden_size).eval().requires_grad_(False)
