"""The losses, each over the whole local batch; processes average their own means."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# The reference's, see `grounding_loss`.
MAX_POSITIVE_WEIGHT = 5.0


def grounding_loss(frame_logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with the reference's weight on relevant frames, in float32.

    The weight is min(5, sqrt(M / max(1, P))) for P relevant and M other frames. With no other
    frames it is 0 and so is the loss; with no relevant frames it has no effect. Both arguments are
    (F,), of all frames of all sequences of the local batch.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/model/language_model/grounding_qwen2.py::EagleQwenG.forward`.
    """
    labels = labels.float()
    num_positive = labels.sum()
    num_negative = labels.numel() - num_positive
    weight = (num_negative / num_positive.clamp(min=1)).sqrt().clamp(max=MAX_POSITIVE_WEIGHT)
    return F.binary_cross_entropy_with_logits(frame_logits.float(), labels, pos_weight=weight)


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of (M, V) and int64 (M,), the token that follows each, in float32."""
    # The mean of nothing is NaN. A sum times 0 keeps the graph, so that this process takes part in
    # the collectives of the backward pass like all others.
    if not len(targets):  # every target of the batch was masked
        return logits.float().sum() * 0.0
    return F.cross_entropy(logits.float(), targets)


def frame_loss(frame_logits: Tensor, frame_targets: Tensor) -> Tensor:
    """Mean binary cross-entropy on what each frame shows, in float32."""
    return F.binary_cross_entropy_with_logits(frame_logits.float(), frame_targets.float())
