"""What engines for a GPU need of each model family: its network, in TensorRT's terms.

A family without a folder here has no profile that compiles engines.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from groundserve.engines.profiles import Precision
from groundserve.errors import UnsupportedError
from groundserve.families.base import FamilyCheckpoint

if TYPE_CHECKING:
    from engine_build.families.modules import MixedVisionModule, TokenScorerModule


class GpuFamily(Protocol):
    """The module `engine_build.families.<name>`."""

    def vision_encoder(
        self, checkpoint: FamilyCheckpoint, *, precision: Precision
    ) -> MixedVisionModule:
        """Read the vision stage as a TensorRT engine computes it."""

    def token_scorer(
        self, checkpoint: FamilyCheckpoint, *, precision: Precision, max_tokens: int
    ) -> TokenScorerModule:
        """Read decoder and head as a TensorRT engine computes them."""

    def write_embeddings(
        self, checkpoint: FamilyCheckpoint, path: Path, *, precision: Precision
    ) -> None:
        """Write what stands before the decoder of an engine, and runs in PyTorch."""


def get_gpu_family(name: str, profile: str) -> GpuFamily:
    """Return what a family has for engines that are compiled for a GPU."""
    module = f"{__name__}.{name}"
    try:
        family: GpuFamily = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # a library that is not installed
            raise
        raise UnsupportedError(
            f"the family {name} has no engines for the profile {profile}; build it with "
            "--profile torch --device cuda for a GPU, or with --profile cpu"
        ) from None
    return family
