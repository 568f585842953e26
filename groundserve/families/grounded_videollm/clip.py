"""CLIP's visual tower as the reference keeps it: a state dict by transformers' names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from groundserve.errors import InvalidRequestError
from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.tower_files import (
    num_heads,
    sizes,
    without_last_block,
)
from groundserve.torch_archive import read_torch_file

HEAD_SIZE = 64
"""Of the published tower."""

_PREFIX = "vision_model."
_BLOCKS = "encoder.layers."
# Behind the features, and a row of numbers that older releases of transformers saved.
_UNREAD = ("post_layernorm.weight", "post_layernorm.bias", "embeddings.position_ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipSource:
    """A tower's file, without what the features do not need."""

    config: ClipTowerConfig
    """Of the blocks that run."""
    tensors: Mapping[str, Tensor]
    """By `ClipTower`'s names, mapped into memory."""

    @classmethod
    def open(cls, path: Path) -> ClipSource:
        """Read a file `vision_model.pth`.

        Raises:
            InvalidRequestError: It is missing or damaged, or holds something else as well.
            UnsupportedError: It is no CLIP with a vision transformer.
        """
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
            num_attention_heads=num_heads(width, HEAD_SIZE),
            # One position is the class token's.
            image_size=math.isqrt(max(num_positions - 1, 0)) * patch_size,
            patch_size=patch_size,
        )
        return cls(
            config=config,
            tensors={name: tensor for name, tensor in run.items() if name not in _UNREAD},
        )
