"""The reference implementation's inference, re-enacted with the weights of ours.

It computes what the reference computes: float16, all layers of the tower with the norm and the
pooling head behind them, every hidden state kept, chunks of 384 frames, bilinear resize, keys and
values repeated for each query head before attention, every decoder layer's output kept.

Two differences, both in its favour: pixels are normalised on the GPU (there on the CPU), and frames
are resized already.

Source: NVlabs/VideoITG fab8b54, `eagle/model/multimodal_encoder/clip_encoder.py`,
`eagle/model/multimodal_projector/mlp_proj.py`, `eagle/model/eagle_archv1.py`,
`eagle/model/language_model/grounding_qwen2.py`.
"""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, SiglipVisionConfig, SiglipVisionModel

from benchmarks.gpu.models import Request, fill_with_noise
from benchmarks.gpu.size import Size
from benchmarks.gpu.timing import is_gpu
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder

_ATTENTION_NAME = "groundserve_reference"
_CHUNK_FRAMES = 384
_RESIZE_FRAMES = 512

HAS_FLASH_ATTENTION = importlib.util.find_spec("flash_attn") is not None
"""Whether the package that the reference needs is there; else PyTorch's copy of its kernel runs."""


class Reference:
    """Both halves of the reference's model."""

    def __init__(
        self,
        size: Size,
        vision: VisionEncoder,
        grounding: GroundingModel,
        *,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        """Copy our weights into the reference's dtype; what only it has is random."""
        AttentionInterface.register(_ATTENTION_NAME, _attention)
        self._device, self._dtype = device, dtype
        self._grid, self._side = size.grid, size.tower.side
        self._select_layer = size.checkpoint.mm_vision_select_layer
        self._tower = _whole_tower(size, vision, dtype=dtype, device=device)
        with torch.device("meta"):
            self._model = GroundingModel(size.checkpoint)
        fill_with_noise(self._model, dtype=dtype, device=device, seed=6)
        self._model.load_state_dict(grounding.state_dict())
        for module in (*self._tower.modules(), *self._model.modules()):
            if hasattr(module, "config"):
                module.config._attn_implementation = _ATTENTION_NAME

    def score(self, request: Request) -> Tensor:
        """Return (T,), sigmoid scores in the reference's dtype, from frames on the device."""
        # Whatever kernel ours uses: the reference's is FlashAttention-2.
        kernels = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if is_gpu(self._device) else nullcontext()
        with torch.inference_mode(), kernels:
            return torch.sigmoid(self.logits(request))

    def logits(self, request: Request) -> Tensor:
        """Return (T,), before the sigmoid."""
        pixel_values = request.frames.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        return self.ground(self.encode(pixel_values.to(self._dtype)), request.text_ids)

    def encode(self, pixel_values: Tensor) -> Tensor:
        """(T, 3, S, S), normalised -> (T, g*g, D_v), what the projector is given."""
        hidden = [
            self._tower(chunk, output_hidden_states=True).hidden_states[self._select_layer]
            for chunk in pixel_values.split(_CHUNK_FRAMES)
        ]
        return self._resize(torch.cat(hidden))

    def ground(self, features: Tensor, text_ids: NDArray[np.int64]) -> Tensor:
        """(T, g*g, D_v) and (Q,) -> (T,), before the sigmoid."""
        visual = self._model.projector(features)  # (T, P, D)
        num_frames, tokens_per_frame, _ = visual.shape
        text = self._model.decoder.embed_tokens(torch.from_numpy(text_ids).to(self._device))
        decoded = self._model.decoder(
            inputs_embeds=torch.cat([visual.flatten(0, 1), text]).unsqueeze(0),
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
            output_hidden_states=True,
        )
        visual_states = decoded.last_hidden_state[0, : num_frames * tokens_per_frame]
        per_frame = visual_states.reshape(num_frames, tokens_per_frame, -1).mean(dim=1)
        logits: Tensor = self._model.head(per_frame)
        return logits.squeeze(1)

    def _resize(self, hidden_states: Tensor) -> Tensor:
        """(T, s*s, D_v) -> (T, g*g, D_v)."""
        num_frames, _, width = hidden_states.shape
        grid = self._grid(num_frames)
        if grid == self._side:
            return hidden_states
        planes = hidden_states.reshape(num_frames, self._side, self._side, width)
        resized = [
            F.interpolate(
                chunk.permute(0, 3, 1, 2), (grid, grid), mode="bilinear", align_corners=False
            )
            for chunk in planes.split(_RESIZE_FRAMES)
        ]
        return torch.cat(resized).permute(0, 2, 3, 1).reshape(num_frames, grid * grid, width)


def _whole_tower(
    size: Size, vision: VisionEncoder, *, dtype: torch.dtype, device: str
) -> SiglipVisionModel:
    with torch.device("meta"):
        tower = SiglipVisionModel(SiglipVisionConfig(**asdict(size.tower)))
    fill_with_noise(tower, dtype=dtype, device=device, seed=5)
    names = tower.state_dict().keys()
    # Between releases of transformers the parts moved one level up.
    prefix = "" if "embeddings.patch_embedding.weight" in names else "vision_model."
    tower.load_state_dict(
        {prefix + name: tensor for name, tensor in vision.state_dict().items()}, strict=False
    )
    return tower


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Full attention over repeated heads: (B, H, S, d) -> (B, S, H, d)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (heads.repeat_interleave(groups, dim=1) for heads in (key, value))
    if HAS_FLASH_ATTENTION and query.is_cuda:
        from flash_attn import flash_attn_func

        packed = (heads.transpose(1, 2) for heads in (query, key, value))
        return flash_attn_func(*packed, softmax_scale=scaling), None
    attended = F.scaled_dot_product_attention(query, key, value, scale=scaling)
    return attended.transpose(1, 2), None
