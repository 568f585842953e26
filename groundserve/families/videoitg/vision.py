"""The vision stage: uint8 frames -> SigLIP layers -> bilinear pooling, in one graph.

Shape letters: n frames, S image side in pixels, s patches a side, P = s*s patches, g grid side,
k rows (and columns) of patches that pooling reads, R = k*k, D_v vision width.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoder, SiglipVisionEmbeddings

from groundserve.families.clip import layer_at
from groundserve.families.modules import VisionModule
from groundserve.families.videoitg.config import VisionConfig


class VisionEncoder(VisionModule):
    """SigLIP up to the selected layer, then the resize to the token grid.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/model/multimodal_encoder/clip_encoder.py::SiglipVisionTower` and the pooling half of
    `eagle/model/multimodal_projector/mlp_proj.py::MLPProjector`. The layers after the selected one,
    the final LayerNorm and the pooling head, which the reference computes and discards, do not
    exist here.
    """

    def __init__(self, config: VisionConfig, *, select_layer: int) -> None:
        super().__init__()
        self.side = config.side
        self.image_size = config.image_size
        self.patch_size = config.patch_size
        trunk = SiglipVisionConfig(
            **{**asdict(config), "num_hidden_layers": config.num_layers_used(select_layer)}
        )
        # Materialised softmax, as the fixtures' reference ran: fused attention moves logits by up
        # to 1.3e-5 in float32, this by 1e-6. 16-bit and exported models set another one.
        trunk._attn_implementation = "eager"
        self.config = trunk
        # Convolution is what the reference computes; the same sum as one matrix product over
        # (row, column, channel) reads the pixels as they lie, which is what exported graphs do.
        self.patches_as_matmul = False
        self.only_what_is_read = False
        self.embeddings = SiglipVisionEmbeddings(trunk)
        self.encoder = SiglipEncoder(trunk)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return cast(nn.ModuleList, self.encoder.layers)

    def prepare_export(self) -> None:
        """Embed patches as exported graphs do; a convolution in float32 is tf32 on a GPU."""
        self.patches_as_matmul = True

    def leave_out_unread(self) -> None:
        """Compute the last layer only at the patches that pooling reads: 64 of 196 at 64 frames."""
        # The checkpoint may select the embeddings, behind which there is no layer.
        self.only_what_is_read = len(self.layers) > 0

    def forward(self, pixels: Tensor, pool: Tensor) -> Tensor:
        """Encode frames, uint8 (n, S, S, 3), RGB, already resized.

        `pool`, float (n, g, s), are bilinear weights of one axis, of each frame its own. Return
        (n, g*g, D_v) in the weights' dtype, grid rows top to bottom, columns left to right.
        """
        hidden_states = self._embed_patches(pixels)  # (n, P, D_v)
        pool = pool.to(hidden_states.dtype)
        if self.only_what_is_read:
            for layer in self.layers[:-1]:
                hidden_states = layer(hidden_states, None)
            rows = _read_rows(pool)
            positions = (rows.unsqueeze(1) * self.side + rows).flatten()  # (R,)
            hidden_states = self._last_layer(hidden_states, positions)  # (n, R, D_v)
            pool = pool.index_select(2, rows)  # (n, g, k)
        else:
            hidden_states = self.encoder(inputs_embeds=hidden_states).last_hidden_state
        return _pool(hidden_states, pool)

    def _last_layer(self, hidden_states: Tensor, positions: Tensor) -> Tensor:
        """Return the last layer's output (n, R, D_v) at some positions of its input (n, P, D_v)."""
        layer = self.layers[-1]
        normed = cast(nn.LayerNorm, layer.layer_norm1)(hidden_states)
        return layer_at(
            layer,
            hidden_states.index_select(1, positions),
            normed.index_select(1, positions),
            normed,
            attention=self.config._attn_implementation,
        )

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """Normalise, cut into patches and project: uint8 (n, S, S, 3) -> (n, P, D_v)."""
        conv = self.embeddings.patch_embedding
        # The same 256 values as the image processor's (x / 255 - 0.5) / 0.5.
        pixel_values = (pixels.to(torch.float32) / 127.5 - 1).to(conv.weight.dtype)
        if self.patches_as_matmul:
            n, s, p = pixels.shape[0], self.side, self.patch_size
            # Like the convolution, leaves out the pixels behind the last whole patch.
            patches = pixel_values[:, : s * p, : s * p].reshape(n, s, p, s, p, 3)
            # (n, s, s, p, p, 3) -> (n, P, p*p*3)
            patches = patches.transpose(2, 3).reshape(n, s * s, p * p * 3)
            weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # (D_v, p*p*3)
            embedded = patches @ weight.T + conv.bias
        else:
            # (n, 3, S, S) -> (n, D_v, s, s) -> (n, P, D_v)
            embedded = conv(pixel_values.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        embedded = embedded + self.embeddings.position_embedding.weight
        return cast(Tensor, embedded)


def _pool(hidden_states: Tensor, weights: Tensor) -> Tensor:
    """Sum rows, then columns, with the same weights (n, g, s): (n, s*s, D_v) -> (n, g*g, D_v)."""
    n, grid, side = weights.shape
    width = hidden_states.shape[2]
    # (n, g, s) x (n, s, s*D_v): sums over the rows of patches, columns and channels side by side.
    rows = torch.bmm(weights, hidden_states.reshape(n, side, side * width))
    rows = rows.reshape(n * grid, side, width)  # (n*g, s, D_v): rows pooled
    # The same weights for each of the g pooled rows of a frame: (n, g, g, s)
    columns = weights.unsqueeze(1).expand(n, grid, grid, side)
    # (n*g, g, s) x (n*g, s, D_v) -> (n*g, g, D_v)
    pooled = torch.bmm(columns.reshape(n * grid, grid, side), rows)
    return pooled.reshape(n, grid * grid, width)


def _read_rows(pool: Tensor) -> Tensor:
    """Return (k,), the rows (and columns) of patches that the pooling of any frame reads."""
    is_read = (pool != 0).any(dim=0).any(dim=0).to(torch.int64)  # (s,)
    # At least one: weights may all be 0.
    num_rows = cast(int, is_read.sum().clamp(min=1).item())
    # For the exporter, which does not know the weights.
    torch._check(num_rows >= 1)  # type: ignore[no-untyped-call] # torch's own
    torch._check(num_rows <= pool.shape[2])  # type: ignore[no-untyped-call] # torch's own
    return is_read.topk(num_rows).indices
