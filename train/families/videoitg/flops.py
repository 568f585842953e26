"""What a training sample costs in arithmetic, by the sizes of the model.

A multiplication with its addition is 2 FLOP; norms, activations, rotary tables and the optimiser,
below a percent together, are left out. FLOPs of the model, not of kernels: padding and what a
causal kernel skips in part do not count. A product costs as much for the gradient of each of its
factors as forward.
"""

from __future__ import annotations

from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from train.config import StageConfig
from train.families.base import SampleCost, SampleFlops


def sample_cost(stage: StageConfig, config: CheckpointConfig, vision: VisionConfig) -> SampleCost:
    """Count what samples are dealt to processes by."""
    forward = 1 + stage.gradient_checkpointing
    # In stage 1 the decoder is frozen: gradients pass through it to the projector, none are of it.
    backward = 1 if stage.stage == "projector" else 2
    is_causal = not stage.is_grounding or stage.variant == "anchor"
    return SampleCost(
        frame=vision.frame_flop(vision.num_layers_used(config.mm_vision_select_layer)),
        token=(forward + backward) * config.linear_flop(1),
        # Both factors of these products are activations, so both gradients are always needed.
        pair=(forward + 2) * config.attention_flop(1, is_causal=is_causal),
    )


def sample_flops(
    stage: StageConfig,
    config: CheckpointConfig,
    vision: VisionConfig,
    *,
    num_frames: int,
    tokens_per_frame: int,
    num_text_tokens: int,
    num_targets: int = 0,
) -> SampleFlops:
    """Return what one sequence costs in training, with the encoding of its frames."""
    cost = sample_cost(stage, config, vision)
    num_visual = num_frames * tokens_per_frame
    num_tokens = num_visual + num_text_tokens
    # Two layers, D_v x D and D x D, three times: forward, and the gradients of weights and of
    # inputs. (The inputs of its first layer are the frozen tower's and need none; the little is
    # not taken off.)
    projector = 6 * num_visual * config.hidden_size * (config.mm_hidden_size + config.hidden_size)
    # Only positions with a target go through it, and once: it is not computed again.
    head = 2 * num_targets * config.hidden_size * config.vocab_size
    passes = 2 if stage.stage == "projector" else 3
    return SampleFlops(
        tower=num_frames * cost.frame,
        decoder=projector + num_tokens * cost.token + num_tokens**2 * cost.pair + passes * head,
    )
