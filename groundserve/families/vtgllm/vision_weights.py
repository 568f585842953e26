"""The vision stage's weights: those that were trained, and of the files before what these lack."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from torch import Tensor

from groundserve.families.vtgllm.eva import EvaConfig, renamed_tower, tower_of_file
from groundserve.families.vtgllm.layout import Parts
from groundserve.families.vtgllm.state import INSIDE, TOWER, TrainedState
from groundserve.weights.torch_archive import read_torch_file

_Q_FORMER = "Qformer.bert."


def read_eva_config(parts: Parts, trained: TrainedState) -> EvaConfig:
    """Read the tower's sizes."""
    where, tower = f"the part checkpoint {parts.checkpoint.name}", trained.tower
    if not tower:
        where, tower = f"the part eva {parts.eva.name}", _tower(parts)
    shapes = {name: tuple(tensor.shape) for name, tensor in tower.items()}
    return EvaConfig.from_shapes(shapes, where=where, num_heads=parts.eva_heads)


def read_vision_tensors(
    parts: Parts, trained: TrainedState, names: AbstractSet[str]
) -> dict[str, Tensor]:
    """Return tensors by the names of `VisionEncoder`.

    Args:
        parts: Whose files stand in; each is read only where something is missing still.
        trained: Goes before them.
        names: Of `VisionEncoder`'s own. What is trained beside is returned, too, so that it is
            told.
    """
    found = _our_names(trained.vision)
    if missing := names - found.keys():
        tower = {TOWER + name: tensor for name, tensor in _tower(parts).items()}
        found |= {n: t for n, t in _our_names(tower).items() if n in missing}
    if missing := names - found.keys():
        older = _our_names(read_torch_file(parts.q_former, inside=INSIDE))
        found |= {n: t for n, t in older.items() if n in missing}
    return found


def _tower(parts: Parts) -> dict[str, Tensor]:
    return tower_of_file(read_torch_file(parts.eva))


def _our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tower = {n.removeprefix(TOWER): t for n, t in tensors.items() if n.startswith(TOWER)}
    found = {TOWER + name: tensor for name, tensor in renamed_tower(tower)}
    for name, tensor in tensors.items():
        if name.startswith(_Q_FORMER):
            # What transformers calls the inner module as the outer one.
            own = name.removeprefix(_Q_FORMER).replace("attention.self.", "attention.attention.")
            found[f"q_former.{own}"] = tensor
        elif not name.startswith(TOWER):
            found[name] = tensor
    return found
