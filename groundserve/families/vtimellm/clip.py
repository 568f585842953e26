"""CLIP's visual tower from OpenAI's file or a directory of transformers, under transformers' names.

Shape letters: P patches of a frame, D_v width of the tower, D width of its features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPVisionConfig

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.clip import HEAD_SIZE, ClipTowerConfig, read_sizes
from groundserve.families.parts import tower_heads
from groundserve.strict_json import shown
from groundserve.weights.tensors import read_json, read_tensors, weight_files
from groundserve.weights.torch_archive import read_torch_file

_OPENAI_PREFIX = "visual."
_TOWER_PREFIX = "vision_model."
_PROJECTION = "visual_projection.weight"
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
# What OpenAI's names hold -> what transformers' do, outside of the blocks and within one.
_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@dataclass(frozen=True, kw_only=True)
class ClipConfig(ClipTowerConfig):
    """The sizes of a tower and of its features."""

    projection_dim: int
    """D."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, num_heads: int | None = None) -> ClipConfig:
        """Read config.json of a directory of transformers, of the tower alone or of all of CLIP."""
        tower = raw
        if raw.get("model_type") == "clip" and isinstance(raw.get("vision_config"), dict):
            # Of a config within another one transformers writes down what is not its default. The
            # width of the features stands outside, where both towers share it.
            tower = {
                **CLIPVisionConfig().to_dict(),
                **raw["vision_config"],
                "projection_dim": raw.get("projection_dim"),
            }
        elif raw.get("model_type") != "clip_vision_model":
            raise UnsupportedError(
                "the part clip must be a file of OpenAI's or have model_type clip or "
                f"clip_vision_model, got {shown(raw.get('model_type'))}"
            )
        for name, value in (("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)):
            if tower.get(name, value) != value:
                raise UnsupportedError(
                    f"the part clip must have {name} {value}, as OpenAI's towers have, got "
                    f"{shown(tower[name])}"
                )
        sizes: dict[str, Any] = {one.name: tower.get(one.name) for one in fields(cls)}
        for name, size in sizes.items():
            if type(size) is not int:
                raise InvalidRequestError(
                    f"the part clip: {name} in config.json must be a whole number, got "
                    f"{shown(size)}"
                )
        if num_heads is not None:
            sizes["num_attention_heads"] = tower_heads(
                sizes["hidden_size"], part="clip", given=num_heads
            )
        return cls(**sizes)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], *, num_heads: int | None = None
    ) -> ClipConfig:
        """Read the shapes of a tower's tensors, by their names in OpenAI's file."""
        sizes = read_sizes(
            tensors,
            {
                "conv1.weight": 4,
                "positional_embedding": 2,
                "transformer.resblocks.0.mlp.c_fc.weight": 2,
                "proj": 2,
            },
            f"the part clip has no {_OPENAI_PREFIX}{{name}} of {{num_dims}} dimensions; it "
            "must be a vision transformer as OpenAI published it",
        )
        width = sizes["hidden_size"]
        return cls(
            **sizes,
            num_hidden_layers=len({m[1] for name in tensors if (m := _BLOCK.fullmatch(name))}),
            num_attention_heads=tower_heads(
                width, part="clip", given=num_heads, head_size=HEAD_SIZE
            ),
            projection_dim=tensors["proj"].shape[1],
        )

    def flop(self) -> float:
        """Return the arithmetic of the tower for one frame; a multiply-add is 2."""
        return super().flop() + 2.0 * self.hidden_size * self.projection_dim


class ClipSource:
    """OpenAI's file, or a directory of transformers, whose tensors are read when asked for."""

    def __init__(self, path: Path, *, num_heads: int | None = None) -> None:
        self.path = path
        if path.is_dir():
            self.config = ClipConfig.from_dict(read_json(path / "config.json"), num_heads=num_heads)
        else:
            self.config = ClipConfig.from_tensors(_openai_tensors(path), num_heads=num_heads)

    @property
    def files(self) -> list[Path]:
        """Files that decide what it computes."""
        if self.path.is_dir():
            return [self.path / "config.json", *weight_files(self.path, or_pickled=True)]
        return [self.path]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tower's tensors and the projection's, by transformers' names within it."""
        if not self.path.is_dir():
            found: dict[str, Tensor] = {}
            for name, tensor in _openai_tensors(self.path).items():
                found |= _renamed(name, tensor)
            return found
        tensors = read_tensors(self.path, _is_visual, or_pickled=True)
        return {name.removeprefix(_TOWER_PREFIX): tensor for name, tensor in tensors}


def _is_visual(name: str) -> bool:
    # Older releases of transformers also saved the positions' numbers.
    return name == _PROJECTION or (
        name.startswith(_TOWER_PREFIX) and not name.endswith(".position_ids")
    )


def _openai_tensors(path: Path) -> dict[str, Tensor]:
    return {
        name.removeprefix(_OPENAI_PREFIX): tensor
        for name, tensor in read_torch_file(path).items()
        if name.startswith(_OPENAI_PREFIX)
    }


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return a tensor of OpenAI's by transformers' names; what is unknown keeps its own."""
    block = _BLOCK.fullmatch(name)
    if name == "proj":
        return {_PROJECTION: tensor.T}
    if block is None:
        return {_NAMES.get(name, name): tensor}
    prefix = f"encoder.layers.{block[1]}."
    layer, _, kind = block[2].rpartition(".")
    if block[2].startswith("attn.in_proj_") and tensor.ndim:  # of query, key and value in one
        kind = block[2].removeprefix("attn.in_proj_")
        pieces = zip("qkv", tensor.tensor_split(3), strict=True)
        return {f"{prefix}self_attn.{part}_proj.{kind}": piece for part, piece in pieces}
    return {f"{prefix}{_BLOCK_NAMES.get(layer, layer)}.{kind}": tensor}
