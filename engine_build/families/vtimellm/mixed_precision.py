"""CLIP's tower as a TensorRT engine computes it: products in 16 bit, sums over layers in 32.

Shape letters: n frames, S side in pixels of the square that CLIP takes, s patches a side, p pixels
of a patch's side, P = s*s patches, D_v width of the tower, D of its features.

In float32 stay, as in VideoITG's (docs/gpu.md), the patch projection with the position
embedding, the residual stream, LayerNorm and the activation; and the projection of the class
vector, one product a frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine_build.families.mixed_layers import EncoderLayer, LayerNorm, frozen
from groundserve.families.vtimellm.vision import VisionEncoder


class MixedClipTower(nn.Module):
    """`VisionEncoder` behind its pixel values, with 16-bit products and float16 features.

    The pixel values come in as float16, which the reference rounds them to, so nothing is lost.
    Frames are resized before it, by `VisionEncoder.pixel_values` in PyTorch: why not in the plan
    stands in docs/gpu.md.
    """

    def __init__(self, model: VisionEncoder, *, dtype: torch.dtype) -> None:
        """Take over a model's weights.

        Args:
            model: In any dtype; float32 keeps norms and projections as they were trained.
            dtype: Of the products; float32 (then of the features too) gives the model that the
                others are compared with.
        """
        super().__init__()
        self.output_dtype = torch.float32 if dtype == torch.float32 else torch.float16
        embeddings = model.embeddings
        self.image_size, self.patch_size = embeddings.image_size, embeddings.patch_size
        # (D_v, 3*p*p), over (channel, row, column) as the pixel values lie.
        self.patch_weight = frozen(embeddings.patch_embedding.weight.flatten(1), torch.float32)
        positions = embeddings.position_embedding.weight.detach().float().clone()
        # The class token is the same for every frame, as its position is.
        positions[0] += embeddings.class_embedding.detach().float()
        self.positions = frozen(positions, torch.float32)  # (1 + P, D_v)
        self.norm_before = LayerNorm(model.pre_layrnorm)
        self.layers = nn.ModuleList(
            EncoderLayer.of_transformers(one, dtype) for one in model.encoder.layers
        )
        self.norm_after = LayerNorm(model.post_layernorm)
        self.projection = frozen(model.visual_projection.weight, torch.float32)  # (D, D_v)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode frames.

        Args:
            pixel_values: float16 (n, 3, S, S), of `PixelValues`.

        Returns:
            float16 (n, 1, D), not normalised, whichever 16 bits the products have.
        """
        patches = self._cut_patches(pixel_values.to(torch.float32))
        # A row of zeros in front for the class token, which `positions` has: (n, 1 + P, D_v).
        embedded = F.pad(F.linear(patches, self.patch_weight), (0, 0, 1, 0))
        hidden_states = self.norm_before(embedded + self.positions)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        projected = F.linear(self.norm_after(hidden_states[:, :1]), self.projection)
        return projected.to(self.output_dtype)

    def _cut_patches(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, S, S) -> (n, P, 3*p*p), without what lies behind the last whole patch."""
        p = self.patch_size
        s = self.image_size // p
        patches = pixel_values[:, :, : s * p, : s * p].reshape(-1, 3, s, p, s, p)
        # (n, 3, s, p, s, p) -> (n, s, s, 3, p, p)
        return patches.permute(0, 2, 4, 1, 3, 5).reshape(-1, s * s, 3 * p * p)
