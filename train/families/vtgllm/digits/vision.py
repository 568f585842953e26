"""EVA and a Q-Former of small width: they learn to say of a frame which digits it shows, and where.

Shape letters: n frames, Q queries, D width of the Q-Former's vectors, C what is said of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from groundserve.families.vtgllm.eva import EvaConfig
from groundserve.families.vtgllm.vision import QFormerConfig, VisionEncoder
from train.digits.answers.answerer import Answerer
from train.digits.answers.seeing import NUM_SAID, frame_loss, frame_vectors
from train.digits.answers.training import fast_precision, optimise
from train.digits.render import render_second
from train.digits.world import NUM_DIGITS, make_scene

EVA = EvaConfig(
    hidden_size=96,
    intermediate_size=288,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=72,
    patch_size=12,
)
Q_FORMER = QFormerConfig(
    hidden_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=288,
    max_position_embeddings=512,
)
NUM_QUERIES = 1
_BATCH_SIZE, _LEARNING_RATE = 32, 1.5e-3


class Seeing(nn.Module):
    """The vision stage, and what reads off its vectors what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = VisionEncoder(EVA, Q_FORMER, num_queries=NUM_QUERIES)
        nn.init.normal_(self.encoder.query_tokens, std=0.5)
        self.said = nn.Linear(Q_FORMER.hidden_size, NUM_SAID)

    def forward(self, frames: Tensor) -> Tensor:
        """Say it: uint8 (n, S, S, 3) -> (n, C)."""
        said: Tensor = self.said(self.encoder(frames)[:, 0])
        return said


def train_seeing(
    answerer: Answerer,
    *,
    seed: int,
    num_steps: int,
    on_step: Callable[[int, float, Tensor], None],
) -> Seeing:
    """Train it on pictures; `on_step` gets step, loss and the share of frames told right."""
    torch.manual_seed(seed)
    seeing = Seeing()
    seeing.encoder.visual_encoder.load_state_dict(first_tower(answerer.vision.state_dict()))
    optimise(
        list(seeing.parameters()),
        _losses(seeing, seed=seed, num_steps=num_steps),
        num_steps=num_steps,
        learning_rate=_LEARNING_RATE,
        on_step=on_step,
    )
    return seeing.eval().requires_grad_(False)


def first_tower(clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what EVA begins as: a CLIP tower of its sizes, but for the norm before its blocks.

    CLIP's patches have no bias, and its queries, keys and values lie apart.
    """
    found = {
        name.replace("out_proj", "projection"): tensor
        for name, tensor in clip.items()
        if name.startswith("encoder.") and name.split(".")[-2] not in ("q_proj", "k_proj", "v_proj")
    }
    for layer in range(EVA.num_hidden_layers):
        for kind in ("weight", "bias"):
            parts = (f"encoder.layers.{layer}.self_attn.{one}_proj.{kind}" for one in "qkv")
            found[f"encoder.layers.{layer}.self_attn.qkv.{kind}"] = torch.cat(
                [clip[part] for part in parts]
            )
    found["embeddings.patch_embedding.weight"] = clip["embeddings.patch_embedding.weight"]
    found["embeddings.patch_embedding.bias"] = torch.zeros(EVA.hidden_size)
    found["embeddings.class_embedding"] = clip["embeddings.class_embedding"][None, None]
    found["embeddings.position_embedding"] = clip["embeddings.position_embedding.weight"][None]
    return found


def _losses(seeing: Seeing, *, seed: int, num_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(num_steps):
        rng = np.random.default_rng([seed, step])
        scenes = [make_scene(rng, split="train") for _ in range(_BATCH_SIZE)]
        frames = [render_second(scene, 0) for scene in scenes]
        wanted = torch.cat([frame_vectors(scene, [0]) for scene in scenes])
        with fast_precision():
            said = seeing(resized(frames)).float()
        right = (said[:, :NUM_DIGITS] > 0) == (wanted[:, :NUM_DIGITS] > 0)
        yield frame_loss(said, wanted), right.all(dim=1).float().mean()


def resized(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return uint8 (n, S, S, 3) as the tower takes them, nearly as FFmpeg's `scale` makes them."""
    size = (EVA.image_size, EVA.image_size)
    small = [Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR) for frame in frames]
    return torch.from_numpy(np.stack([np.asarray(one) for one in small]))


def bert_config() -> dict[str, object]:
    """Return config.json of the BERT whose sizes the Q-Former has."""
    return {"model_type": "bert", **asdict(Q_FORMER)}


def eva_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return EVA's own file from the tensors of `VisionEncoder`.

    The key's bias, which no softmax sees, has no place in it; a last block, which is never run,
    has.
    """
    names = {
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed",
        "embeddings.patch_embedding.": "patch_embed.proj.",
        "encoder.layers.": "blocks.",
        ".layer_norm": ".norm",
        ".self_attn.qkv": ".attn.qkv",
        ".self_attn.projection": ".attn.proj",
    }
    found = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix("visual_encoder.")
        if inner == name:
            continue
        for ours, theirs in names.items():
            inner = inner.replace(ours, theirs)
        if inner.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            found[inner.replace("qkv.bias", "q_bias")] = query.clone()
            found[inner.replace("qkv.bias", "v_bias")] = value.clone()
        else:
            found[inner] = tensor
    last = EVA.num_hidden_layers
    block = f"blocks.{last - 1}."
    unread = {n.replace(block, f"blocks.{last}."): t for n, t in found.items() if block in n}
    return found | unread


def q_former_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the file of InstructBLIP from the tensors of `VisionEncoder`: all but the tower."""
    return {
        name.replace("q_former.", "Qformer.bert.").replace(
            "attention.attention.", "attention.self."
        ): tensor
        for name, tensor in tensors.items()
        if not name.startswith("visual_encoder.")
    }
