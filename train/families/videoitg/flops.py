"""What a training sample costs in arithmetic, by the sizes of the model.

A multiplication with its addition is 2 FLOP; norms, activations, rotary tables and the optimiser,
below a percent together, are left out. FLOPs of the model, not of kernels: padding and what a
causal kernel skips in part do not count.

Shape letters: T sampled frames, P patches of a frame, D decoder width, S sequence length.
"""

from __future__ import annotations

from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from train.config import StageConfig
from train.cost import SampleCost, SampleFlops


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
    """Return what one sequence costs in training, with the encoding of its frames.

    A product costs as much for the gradient of each of its factors as forward. Weights have one in
    the projector alone in stage 1; both factors of attention's products always do.
    `gradient_checkpointing` adds a forward pass of the decoder's layers.
    """
    num_visual = num_frames * tokens_per_frame
    # Two layers, D_v x D and D x D.
    projector = 2 * num_visual * config.hidden_size * (config.mm_hidden_size + config.hidden_size)
    num_tokens = num_visual + num_text_tokens
    is_causal = not stage.is_grounding or stage.variant == "anchor"
    # Only positions with a target go through it.
    head = 2 * num_targets * config.hidden_size * config.vocab_size
    # In stage 1 the decoder is frozen: gradients pass through it to the projector, none are of it.
    backward = 1 if stage.stage == "projector" else 2
    forward = 1 + int(stage.gradient_checkpointing)
    trunk = (forward + backward) * config.linear_flop(num_tokens)
    # Both factors of these products are activations, so both gradients are always needed.
    trunk += (forward + 2) * config.attention_flop(num_tokens, is_causal=is_causal)
    num_layers = vision.num_layers_used(config.mm_vision_select_layer)
    return SampleFlops(
        tower=num_frames * vision.frame_flop(num_layers),
        # The head stands outside the layers that are computed again, so its forward counts once.
        # The projector's 3: forward, and the gradients of weights and of inputs. (The inputs of its
        # first layer are the frozen tower's and need none; the little is not taken off.)
        decoder=float(3 * projector + trunk + (1 + backward) * head),
    )


def sample_cost(
    config: CheckpointConfig,
    vision: VisionConfig,
    *,
    is_trained: bool,
    is_causal: bool,
    recomputes: bool,
) -> SampleCost:
    """Count what samples are dealt to processes by.

    Args:
        config: The decoder's shapes.
        vision: The tower's.
        is_trained: Whether the decoder is; else only gradients of its inputs are computed.
        is_causal: Whether a token sees only those before it.
        recomputes: Whether layers are computed again in the backward pass.
    """
    # A product costs as much for the gradient of each of its factors as forward. Both factors
    # of the attention's products come from tokens, so these always take two more.
    forward = 1 + recomputes
    return SampleCost(
        frame=vision.frame_flop(vision.num_layers_used(config.mm_vision_select_layer)),
        # 1 for the gradient of the inputs, one more for that of weights that are trained.
        token=(forward + 1 + is_trained) * config.linear_flop(1),
        pair=(forward + 2) * config.attention_flop(1, is_causal=is_causal),
    )
