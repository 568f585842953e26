"""Vision stages of published sizes with random weights of 16 bits, as TensorRT computes them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from engine_build.families.grounded_videollm.mixed_precision import (
    MixedVisionEncoder as GroundedVideoLLMEncoder,
)
from engine_build.families.vtgllm.mixed_precision import MixedVisionEncoder as VTGLLMEncoder
from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.grounded_videollm.vision import VisionConfig
from groundserve.families.grounded_videollm.vision import VisionEncoder as GroundedVideoLLMVision
from groundserve.families.vtgllm.eva import EvaConfig
from groundserve.families.vtgllm.q_former import QFormerConfig
from groundserve.families.vtgllm.vision import VisionEncoder as VTGLLMVision

_Model = TypeVar("_Model", bound=nn.Module)


def random_vtgllm(num_layers: int | None = None) -> VTGLLMEncoder:
    """Return EVA-g, 224 px, with BERT's Q-Former; fp16.

    Args:
        num_layers: Of both, at most; None: all that there are.
    """
    eva = EvaConfig(
        hidden_size=1408,
        intermediate_size=6144,
        num_hidden_layers=_at_most(num_layers, 39),
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    q_former = QFormerConfig(
        hidden_size=768,
        num_hidden_layers=_at_most(num_layers, 12),
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=512,
    )
    with torch.device("meta"):
        model = VTGLLMVision(eva, q_former, num_queries=32).to(torch.float16)
    return VTGLLMEncoder(filled(model), dtype=torch.float16)


def random_grounded_videollm(num_layers: int | None = None) -> GroundedVideoLLMEncoder:
    """Return CLIP ViT-L/14, 336 px, InternVideo2 and the projectors of Phi-3.5; bf16.

    Args:
        num_layers: Of both towers, at most; None: all that there are.
    """
    clip = ClipTowerConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=_at_most(num_layers, 23),
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    internvideo2 = InternVideo2Config(
        width=1408,
        mlp_width=6144,
        num_blocks=_at_most(num_layers, 39),
        num_heads=16,
        num_frames=8,
        side=16,
        patch_size=14,
    )
    config = VisionConfig(llm="phi3.5", clip=clip, internvideo2=internvideo2, hidden_size=3072)
    with torch.device("meta"):
        model = GroundedVideoLLMVision(config).to(torch.bfloat16)
    return GroundedVideoLLMEncoder(filled(model), dtype=torch.bfloat16)


def filled(model: _Model) -> _Model:
    """Draw the weights in their final dtype; in float32 they would take twice the memory."""
    model = model.to_empty(device="cpu").requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.02)
    return model.eval()


def _at_most(wanted: int | None, published: int) -> int:
    return published if wanted is None else min(wanted, published)
