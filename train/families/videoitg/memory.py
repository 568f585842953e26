"""Bytes of a GPU's memory that a run takes with `fsdp2` or `hsdp`, bf16 and recomputed layers.

Arithmetic from the model's sizes. What a layer keeps follows from `Qwen2DecoderLayer` under
autograd, what is gathered when from FSDP2 (torch 2.13, `_fully_shard/_fsdp_param_group.py`:
`wait_for_unshard`, `post_backward`). Not in it: fragments between tensors, NCCL's buffers, CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from groundserve.families.videoitg.vision import VisionEncoder
from train.config import Stage
from train.families.videoitg.models import MAX_ENCODED_FRAMES, model_class

_BF16, _FP32 = 2, 4  # bytes


@dataclass(frozen=True, kw_only=True)
class PassSize:
    """What goes through the model in one forward pass of a process."""

    num_frames: int
    """Of all samples."""
    num_visual: int
    """Visual tokens."""
    num_text: int
    """Text tokens."""
    num_targets: int
    """Of them, those that predict one of the vocabulary; 0 in stage 4."""

    @property
    def num_tokens(self) -> int:
        """Positions of the decoder."""
        return self.num_visual + self.num_text


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of a stage's model, without the vision tower."""

    layer: int
    """One decoder layer."""
    layers: int
    """All of them."""
    others: int
    """Embedding table, projector, head and final norm, which are gathered together."""
    trained_layers: int
    """Of the layers, what the stage trains."""
    trained_others: int
    """Of the others."""

    @property
    def total(self) -> int:
        """All."""
        return self.layers + self.others

    @property
    def trained(self) -> int:
        """All that is trained."""
        return self.trained_layers + self.trained_others


def count_parameters(stage: Stage, config: CheckpointConfig) -> Parameters:
    """Count those of a stage's model."""
    with torch.device("meta"):
        # Both variants have a head of one output, so either counts for stage 4.
        model = model_class(stage, "pooling")(config)
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.decoder.layers]
    total = sum(p.numel() for p in model.parameters())
    projector = sum(p.numel() for p in model.projector.parameters())
    others = total - sum(layers)
    trains_all = stage != "projector"
    return Parameters(
        layer=layers[0],  # all are alike
        layers=sum(layers),
        others=others,
        trained_layers=sum(layers) if trains_all else 0,
        trained_others=others if trains_all else projector,
    )


def count_tower_parameters(config: CheckpointConfig, vision: VisionConfig) -> int:
    """Count those of the part of the vision tower that is used."""
    with torch.device("meta"):
        tower = VisionEncoder(vision, select_layer=config.mm_vision_select_layer)
    return sum(p.numel() for p in tower.parameters())


def layer_bytes_per_token(config: CheckpointConfig) -> int:
    """Return what a decoder layer holds of a token when it is computed again and backward."""
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    head = width // heads
    # Grouped queries: keys and values are narrower than queries.
    width_kv = head * config.num_key_value_heads
    # Both norms: input and its square root in float32, the result before and after the weight.
    norms = 2 * (_FP32 * width + _FP32 + 2 * _BF16 * width)
    # Queries, keys, values, output, the softmax's sums, the rotary sines and cosines.
    attention = _BF16 * (2 * width + 2 * width_kv + 2 * head) + _FP32 * heads
    mlp = _BF16 * 4 * inner  # gate, its activation, the other branch, their product
    # Backward, at most: gradients of two of the last, of the layer's output and of the residual.
    return norms + attention + mlp + _BF16 * (2 * inner + 2 * width)


def tower_bytes_per_frame(vision: VisionConfig) -> int:
    """Return what a frame takes in the tower, which keeps nothing for a backward pass."""
    # The MLP's inner layer before and after its activation; input, residual, normalised.
    values = 2 * vision.intermediate_size + 3 * vision.hidden_size
    return _BF16 * vision.side**2 * values


def gpu_bytes(
    stage: Stage,
    config: CheckpointConfig,
    vision: VisionConfig,
    *,
    num_shards: int,
    size: PassSize,
) -> dict[str, float]:
    """Return the parts of a GPU's memory, in bytes; their sum bounds the peak from above.

    Args:
        stage: Decides the head, and what is trained.
        config: The decoder's sizes.
        vision: The tower's.
        num_shards: Processes that share weights: all with `fsdp2`, those of a node with `hsdp`.
        size: Of the largest pass.
    """
    count = count_parameters(stage, config)
    width = config.hidden_size
    layer_trained = count.layer if count.trained_layers else 0
    return {
        "weights, gradients and two moments, sharded": (
            # The master weights of all, and for what is trained a gradient and AdamW's two moments.
            (_FP32 * count.total + 3 * _FP32 * count.trained) / num_shards
        ),
        "inputs of the layers": _BF16 * config.num_hidden_layers * size.num_tokens * width,
        "one layer, recomputed and backward": size.num_tokens * layer_bytes_per_token(config),
        "projector and final norm": (
            _BF16 * size.num_visual * (config.mm_hidden_size + 2 * width)
            + size.num_tokens * (_FP32 * width + _FP32 + 2 * _BF16 * width)
        ),
        # The outermost module is not sharded again until its backward pass.
        "embedding, projector and head, gathered": _BF16 * count.others,
        # As they are computed, and in float32 while they are summed over processes.
        "... and their gradients": (_BF16 + _FP32) * count.trained_others,
        "two layers, gathered": 2 * _BF16 * count.layer,
        "one layer's gradients": (_BF16 + _FP32) * layer_trained,
        # bf16, float32, and a gradient of each.
        "logits": 2 * (_BF16 + _FP32) * config.vocab_size * size.num_targets,
        "vision tower": _BF16 * count_tower_parameters(config, vision),
        "frames in the tower": (
            # However many frames a sample has, they go through in chunks.
            min(size.num_frames, MAX_ENCODED_FRAMES) * tower_bytes_per_frame(vision)
        ),
    }
