"""CLIP's visual tower as the reference keeps it: a state dict by transformers' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from groundserve.errors import InvalidRequestError
from groundserve.families.clip import HEAD_SIZE, ClipTowerConfig
from groundserve.families.grounded_videollm.tower_files import sizes, without_last_block
from groundserve.families.parts import tower_heads
from groundserve.strict_json import shown
from groundserve.weights.torch_archive import read_torch_file

_PREFIX = "vision_model."
_BLOCKS = "encoder.layers."
# Behind the features, and a row of numbers that older releases of transformers saved.
_UNREAD = ("post_layernorm.weight", "post_layernorm.bias", "embeddings.position_ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipSource:
    """A tower's file, without what the features do not need."""

    config: ClipTowerConfig
    """Sizes with the blocks that run alone."""
    tensors: Mapping[str, Tensor]
    """By `ClipTower`'s names, mapped into memory."""

    @classmethod
    def open(
        cls, path: Path, *, num_heads: int | None = None, described: object = None
    ) -> ClipSource:
        """Read a file `vision_model.pth`."""
        found: dict[str, Tensor] = {}
        for name, tensor in read_torch_file(path).items():
            if not name.startswith(_PREFIX):
                raise InvalidRequestError(
                    f"the part clip {path.name}: {name[:120]} is no tensor of {_PREFIX}*"
                )
            found[name.removeprefix(_PREFIX)] = tensor
        run, num_blocks = without_last_block(found, part="clip", blocks=_BLOCKS)
        (width, _, _, patch_size), (num_positions, _), (mlp_width, _) = sizes(
            run,
            {
                "embeddings.patch_embedding.weight": 4,
                "embeddings.position_embedding.weight": 2,
                f"{_BLOCKS}0.mlp.fc1.weight": 2,
            },
            part="clip",
        )
        config = ClipTowerConfig(
            hidden_size=width,
            intermediate_size=mlp_width,
            num_hidden_layers=num_blocks,
            num_attention_heads=tower_heads(
                width,
                part="clip",
                given=num_heads,
                described=described_heads(described, width),
                head_size=HEAD_SIZE,
            ),
            # One position is the class token's.
            image_size=math.isqrt(max(num_positions - 1, 0)) * patch_size,
            patch_size=patch_size,
        )
        return cls(
            config=config,
            tensors={name: tensor for name, tensor in run.items() if name not in _UNREAD},
        )


def described_heads(vision_config: object, width: int) -> int | None:
    """Return what a config says of a tower of this width; None where it says nothing."""
    raw: Any = vision_config if isinstance(vision_config, dict) else {}
    heads = raw.get("num_attention_heads")
    if heads is None or raw.get("hidden_size", width) != width:
        return None
    if type(heads) is not int or heads < 1:
        raise InvalidRequestError(
            "num_attention_heads of vision_config must be a whole number above 0, got "
            f"{shown(heads)}; give the right one with --part clip_heads=N"
        )
    return heads
