"""The processor cores of one rank: several share a machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from groundserve.errors import InvalidRequestError
from groundserve.runtime.cpus import available_cpus


def rank_cpus(environment: Mapping[str, str] = os.environ) -> int:
    """Return this rank's share of the cores that its processes may use, >= 1.

    What is divided by LOCAL_WORLD_SIZE, torchrun's count of the ranks on this machine, are the
    cores of the process that started them: where the launcher bound this rank to some (torchrun
    binds to the GPU's NUMA node), the others of its node have the same ones.

    Raises:
        InvalidRequestError: LOCAL_WORLD_SIZE is not a whole number >= 1.
    """
    # Unset, nothing but torchrun sets it: the process is on its own.
    text = environment.get("LOCAL_WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequestError(f"LOCAL_WORLD_SIZE must be a whole number >= 1, got {text!r}")
    num_ranks = int(text)
    if num_ranks == 1:
        return available_cpus()
    # The parent is torchrun's agent, whose children the ranks are. The smaller of the two: a rank
    # that was bound to fewer cores than its share has no more.
    return min(available_cpus(), max(1, available_cpus(os.getppid()) // num_ranks))
