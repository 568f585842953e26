"""What the files of both towers have in common: blocks of which the last is not run."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError


def without_last_block(
    tensors: Mapping[str, Tensor], *, part: str, blocks: str
) -> tuple[dict[str, Tensor], int]:
    """Leave out the last block, behind which the reference takes no features.

    Args:
        tensors: Of the file.
        part: Its name, for errors.
        blocks: What the names of the blocks' tensors begin with, up to the number.

    Returns:
        The others, and how many blocks are among them.
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


def sizes(
    tensors: Mapping[str, Tensor], needed: Mapping[str, int], *, part: str
) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of tensors that tell the sizes of a tower."""
    for name, num_dims in needed.items():
        if name not in tensors or tensors[name].ndim != num_dims:
            raise UnsupportedError(
                f"the part {part} has no {name} of {num_dims} dimensions; it must be the file that "
                "the reference reads"
            )
    return tuple(tuple(tensors[name].shape) for name in needed)
