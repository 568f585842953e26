"""The vision stage and the front: frames -> CLIP's class vectors -> the decoder's width.

Shape letters: n frames, S side in pixels of the square that CLIP takes, P patches of it, D_v width
of the tower, D of its features, T sampled frames, H width of the decoder.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from groundserve.families.clip import ClipTower, layer_at
from groundserve.families.modules import FrontModule, VisionModule
from groundserve.families.vtimellm.clip import ClipConfig
from groundserve.families.vtimellm.pixels import PixelValues


class VisionEncoder(ClipTower, VisionModule):
    """CLIP's visual tower up to the projected class vector, resizing included.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/inference.py`.
    """

    def __init__(self, config: ClipConfig, *, antialias: bool) -> None:
        super().__init__(config)
        self.pixel_values = PixelValues(image_size=config.image_size, antialias=antialias)
        self.only_what_is_read = False
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=self.config.layer_norm_eps)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def prepare_export(self) -> None:
        """Resize and embed patches by matrix products; see `PixelValues`."""
        self.pixel_values.as_matmul = True
        self.patches_as_matmul = True

    def leave_out_unread(self) -> None:
        """Compute the last layer at the class token alone, and pixels of their neighbours alone."""
        self.only_what_is_read = True
        self.pixel_values.as_neighbours = True

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames: uint8 (n, H, W, 3), RGB, as decoded -> (n, 1, D), not normalised."""
        pixel_values = self.pixel_values(frames)
        if self.only_what_is_read:
            hidden_states = self.embed_pixels(pixel_values)
            for layer in self.layers[:-1]:
                hidden_states = self._layer(layer, hidden_states, hidden_states)
            class_states = self._layer(self.layers[-1], hidden_states, hidden_states[:, :1])
        else:
            class_states = self.encode_pixels(pixel_values)[:, :1]
        return cast(Tensor, self.visual_projection(self.post_layernorm(class_states)))

    def _layer(self, layer: nn.Module, hidden_states: Tensor, read: Tensor) -> Tensor:
        norm = cast(nn.LayerNorm, layer.layer_norm1)
        attention = self.config._attn_implementation
        return layer_at(layer, read, norm(read), norm(hidden_states), attention=attention)


class Projector(FrontModule):
    """Each frame's vector to the decoder's width, alone.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/model/vtimellm_arch.py`.
    """

    def __init__(self, feature_width: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_width, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """Project (T, 1, D) -> (T, H) in the weights' dtype."""
        return cast(Tensor, self.linear(features.to(self.linear.weight.dtype).squeeze(1)))
