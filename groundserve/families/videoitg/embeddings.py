"""What stands before the decoder of a GPU engine: the projector and the table of text embeddings.

`grounding_embeddings.safetensors` holds them in the engine's dtype, by their names in
`GroundingModel`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from groundserve.errors import EngineMismatchError
from groundserve.families.videoitg.decoder import GroundingModel

_PROJECTOR = "projector."
_TABLE = "decoder.embed_tokens.weight"


def write_embeddings(model: GroundingModel, path: Path) -> None:
    """Write projector and table of a model, in the dtype they have."""
    tensors = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(_PROJECTOR) or name == _TABLE
    }
    save_file(tensors, path)
    # safetensors leaves it to its owner alone; a server may run as somebody else.
    path.chmod(0o644)


def read_embeddings(path: Path, *, device: str) -> tuple[nn.Sequential, nn.Embedding]:
    """Read projector (D_v -> D) and table (ids -> D), ready to run on a device.

    Args:
        path: As `write_embeddings` writes it.
        device: `cpu`, `cuda` or `cuda:1`.
    """
    try:
        tensors = load_file(path, device=device)
        table = tensors.pop(_TABLE)
        # (D, D_v): a Linear's weight has its outputs first.
        width, vision_width = tensors[f"{_PROJECTOR}0.weight"].shape
        with torch.device("meta"):
            # The projector of `GroundingModel`, whose names the file has.
            projector = nn.Sequential(
                nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width)
            )
        weights = {name.removeprefix(_PROJECTOR): tensor for name, tensor in tensors.items()}
        projector.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EngineMismatchError(
            f"{path.name} is missing or damaged; rebuild the engine directory with: "
            "groundserve build"
        ) from error
    num_tokens, _ = table.shape
    # `_weight`: the table as it is, without a random one made first.
    embed_tokens = nn.Embedding(num_tokens, width, _weight=table)
    return projector.eval().requires_grad_(False), embed_tokens.requires_grad_(False)
