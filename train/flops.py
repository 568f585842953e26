"""What a training sample costs in arithmetic, by the sizes of the model.

A multiplication with its addition is 2 FLOP; norms, activations, rotary tables and the optimiser,
below a percent together, are left out. FLOPs of the model, not of kernels: padding and what a
causal kernel skips in part do not count.

Shape letters: T sampled frames, P patches of a frame, D decoder width, S sequence length.
"""

from __future__ import annotations

from dataclasses import dataclass

from groundserve.modeling.config import CheckpointConfig, VisionConfig
from train.config import StageConfig

_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class SampleFlops:
    """One item, through forward and backward passes."""

    tower: float
    """The vision tower, forward alone: it is frozen."""
    decoder: float
    """Projector, decoder and LM head, with what is computed anew in the backward pass."""

    @property
    def total(self) -> float:
        """Both."""
        return self.tower + self.decoder


def tower_flops(vision: VisionConfig, *, select_layer: int) -> float:
    """Return what encoding one frame costs, up to the layer that is used."""
    patches, width = vision.side**2, vision.hidden_size
    linear = 4 * width**2 + 2 * width * vision.intermediate_size  # q, k, v, o; fc1, fc2
    layer = 2 * patches * linear + 4 * patches**2 * width
    embedding = 2 * patches * _CHANNELS * vision.patch_size**2 * width
    return float(embedding + vision.num_layers_used(select_layer) * layer)


def decoder_flops(config: CheckpointConfig, *, num_tokens: int, causal: bool) -> float:
    """Return what one forward pass over S tokens costs, without projector and head.

    Every token meets every other, under a causal mask half of them.
    """
    width = config.hidden_size
    key_value = width // config.num_attention_heads * config.num_key_value_heads
    linear = 2 * width**2 + 2 * width * key_value + 3 * width * config.intermediate_size
    attention = 4 * num_tokens**2 * width / (2 if causal else 1)
    return config.num_hidden_layers * (2 * num_tokens * linear + attention)


def sample_flops(
    stage: StageConfig,
    config: CheckpointConfig,
    vision: VisionConfig,
    *,
    num_frames: int,
    grid: int,
    num_text_tokens: int,
    num_targets: int = 0,
) -> SampleFlops:
    """Return what one sequence costs in training, with the encoding of its frames.

    A backward pass costs a forward pass for the gradients of what a layer takes in and another one
    for those of its weights, which stage 1 has in the projector alone. `gradient_checkpointing`
    adds a forward pass of the decoder's layers.

    Args:
        stage: The run.
        config: The model.
        vision: Its tower.
        num_frames: T.
        grid: g; there are T * g * g visual tokens.
        num_text_tokens: Of the question or conversation.
        num_targets: Positions that the LM head computes logits for (stages 1 to 3).
    """
    num_visual = num_frames * grid**2
    projector = 2 * num_visual * config.hidden_size * (config.mm_hidden_size + config.hidden_size)
    trunk = decoder_flops(
        config,
        num_tokens=num_visual + num_text_tokens,
        causal=not stage.is_grounding or stage.variant == "anchor",
    )
    head = 2 * num_targets * config.hidden_size * config.vocab_size
    backward = 1 if stage.stage == "projector" else 2
    recomputed = int(stage.gradient_checkpointing)
    return SampleFlops(
        tower=num_frames * tower_flops(vision, select_layer=config.mm_vision_select_layer),
        decoder=float(3 * projector + (1 + recomputed + backward) * trunk + (1 + backward) * head),
    )
