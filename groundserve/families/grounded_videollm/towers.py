"""The files of both towers, each without its last block and what else the features do not need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.clip import HEAD_SIZE, ClipTowerConfig, read_sizes
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.parts import tower_heads
from groundserve.strict_json import shown
from groundserve.weights.torch_archive import read_torch_file

_INTERNVIDEO_HEAD_SIZE = 88  # of the published encoder, whose file does not say it
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what can be stretched
_CLIP_PREFIX = "vision_model."
_OTHER_FILE = (
    "the part {} has no {{name}} of {{num_dims}} dimensions; it must be the file that the "
    "reference reads"
)
# Behind the features, and a row of numbers that older releases of transformers saved. Positions of
# pictures and of the heads that were trained against other models, and these heads.
_UNREAD = re.compile(
    r"post_layernorm\.(weight|bias)|embeddings\.position_ids"
    r"|(img_pos_embed|clip_pos_embed|clip_img_pos_embed)"
    r"|(clip_projector|clip_decoder\.\d+|final_clip_decoder)\..+"
)

ConfigT = TypeVar("ConfigT", bound=ClipTowerConfig)


class Tower(NamedTuple, Generic[ConfigT]):
    """Sizes of the blocks that run alone, and tensors by the module's names, mapped into memory."""

    config: ConfigT
    tensors: Mapping[str, Tensor]


def read_clip(
    path: Path, *, num_heads: int | None = None, described: object = None
) -> Tower[ClipTowerConfig]:
    """Read a file `vision_model.pth` of the model with the vision_config that is `described`."""
    found: dict[str, Tensor] = {}
    for name, tensor in read_torch_file(path).items():
        if not name.startswith(_CLIP_PREFIX):
            raise InvalidRequestError(
                f"the part clip {path.name}: {name[:120]} is no tensor of {_CLIP_PREFIX}*"
            )
        found[name.removeprefix(_CLIP_PREFIX)] = tensor
    blocks = "encoder.layers."
    run, num_blocks = _without_last_block(found, part="clip", blocks=blocks)
    needed = {
        "embeddings.patch_embedding.weight": 4,
        "embeddings.position_embedding.weight": 2,
        f"{blocks}0.mlp.fc1.weight": 2,
    }
    sizes = read_sizes(run, needed, _OTHER_FILE.format("clip"))
    width = sizes["hidden_size"]
    heads = tower_heads(
        width,
        part="clip",
        given=num_heads,
        described=_described_heads(described, width),
        head_size=HEAD_SIZE,
    )
    config = ClipTowerConfig(**sizes, num_hidden_layers=num_blocks, num_attention_heads=heads)
    return Tower(config=config, tensors=_read(run))


def read_internvideo2(
    path: Path, *, num_frames: int, num_heads: int | None = None
) -> Tower[InternVideo2Config]:
    """Read a file of the second stage; positions are stretched to F frames."""
    found = read_torch_file(path)
    run, num_blocks = _without_last_block(found, part="internvideo", blocks="blocks.")
    needed = {
        "patch_embed.proj.weight": 5,
        "img_pos_embed": 3,
        "blocks.0.mlp.fc1.weight": 2,
        "pos_embed": 3,
    }
    sizes = read_sizes(run, needed, _OTHER_FILE.format("internvideo"))
    width = sizes["hidden_size"]
    config = InternVideo2Config(
        **sizes,
        num_hidden_layers=num_blocks,
        num_attention_heads=tower_heads(
            width, part="internvideo", given=num_heads, head_size=_INTERNVIDEO_HEAD_SIZE
        ),
        num_frames=num_frames,
    )
    positions = run["pos_embed"]
    num_positions = positions.shape[1]
    if num_positions <= config.side**2 or (num_positions - 1) % config.side**2:
        raise UnsupportedError(
            f"the part internvideo: pos_embed has {num_positions} positions, which are no "
            f"whole frames of {config.side} x {config.side} patches and a class token"
        )
    if len(positions) != 1 or positions.dtype not in _FLOATS:
        raise UnsupportedError(
            "the part internvideo: pos_embed must be one table of floats of 16 bits or more, "
            f"got {tuple(positions.shape)} of {positions.dtype}"
        )
    return Tower(config=config, tensors={**_read(run), "pos_embed": stretched(positions, config)})


def stretched(positions: Tensor, config: InternVideo2Config) -> Tensor:
    """Stretch the positions of fewer or more frames to F, linearly, in the dtype that they have.

    (1, 1 + F'*s*s, C), the class token's first -> (1, 1 + P, C).

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/internvideo2.py`.
    """
    of_class, of_patches = positions[:, :1], positions[0, 1:]
    # (F'*s*s, C) -> (s*s, C, F')
    by_time = torch.unflatten(of_patches, 0, (-1, config.side**2)).permute(1, 2, 0)
    by_time = F.interpolate(by_time, size=config.num_frames, mode="linear", align_corners=False)
    return torch.cat((of_class, by_time.permute(2, 0, 1).flatten(0, 1)[None]), dim=1)


def _without_last_block(
    tensors: Mapping[str, Tensor], *, part: str, blocks: str
) -> tuple[dict[str, Tensor], int]:
    """Leave out the last block, behind which the reference takes no features; count the others.

    Names of the blocks' tensors begin with `blocks`, up to the number.
    """
    names: dict[int, dict[str, tuple[int, ...]]] = {}
    pattern = re.compile(re.escape(blocks) + r"(\d{1,4})\.(.+)")
    for name, tensor in tensors.items():
        if match := pattern.fullmatch(name):
            names.setdefault(int(match[1]), {})[match[2]] = tuple(tensor.shape)
    last = len(names) - 1
    if last < 1:
        raise UnsupportedError(
            f"the part {part} must have at least two blocks {blocks}*, got {len(names)}"
        )
    for number, shapes in sorted(names.items()):
        if number > last or shapes != names.get(0):
            raise InvalidRequestError(
                f"the part {part}: {blocks}{number} is not as {blocks}0, or some blocks are "
                "missing; download it again"
            )
    ending = f"{blocks}{last}."
    return {name: one for name, one in tensors.items() if not name.startswith(ending)}, last


def _read(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not _UNREAD.fullmatch(name)}


def _described_heads(vision_config: object, width: int) -> int | None:
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
