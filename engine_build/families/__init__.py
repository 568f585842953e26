"""What engines for a GPU need of each model family: its network, in each library's terms.

A family without a folder here has no profile that compiles engines, nor has one whose folder says
why, as `REFUSED`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from groundserve.errors import UnsupportedError
from groundserve.families.base import FamilyCheckpoint, ModelSpec, TextCheckpoint
from groundserve.profiles import PROFILES, Precision, get_profile
from groundserve.tensorrt_library import TensorRTTarget

if TYPE_CHECKING:
    from engine_build.families.modules import MixedVisionModule, TokenScorerModule
    from engine_build.tensorrt_plan import PlanReport


class GpuFamily(Protocol):
    """The module `engine_build.families.<name>`."""

    TRTLLM_FILE: Path
    """File with the decoder as a TensorRT-LLM network, which `trtllm-build` loads."""
    TRTLLM_CLASS: str
    """Name of the network's class in it."""

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

    def write_trtllm_checkpoint(
        self,
        checkpoint: FamilyCheckpoint,
        out_dir: Path,
        *,
        precision: Precision,
        max_input_len: int,
    ) -> None:
        """Write decoder and head as TensorRT-LLM reads them.

        Args:
            checkpoint: Opened; its weights are read here.
            out_dir: Existing directory.
            precision: Dtype of the engine.
            max_input_len: Tokens of the longest sequence the engine will take.
        """

    def mlp_width(self, checkpoint: FamilyCheckpoint) -> int:
        """Return the columns of the decoder's gate projection, which bound a pass."""


class TextGpuFamily(Protocol):
    """The same module of a family of head "text"."""

    PRECISIONS: tuple[Precision, ...]
    """What its engines are built in; the first where none is named. fp16 alone can be served: no
    numpy array, in which a prompt table travels, has the type of bf16."""

    def build_vision_plan(
        self,
        checkpoint: TextCheckpoint,
        path: Path,
        *,
        model: ModelSpec,
        target: TensorRTTarget,
        precision: Precision,
        timing_cache: Path | None,
    ) -> PlanReport:
        """Write the plan of the vision stage.

        Its inputs are those of the stage, or `PLAN_PIXELS` alone where frames stay as decoded.

        Raises:
            EngineMismatchError: See `engine_build.tensorrt_plan.build_plan`.
        """

    def write_trtllm_checkpoint(
        self, checkpoint: TextCheckpoint, out_dir: Path, *, precision: Precision
    ) -> None:
        """Write the decoder as one of TensorRT-LLM's own networks reads it.

        Raises:
            UnsupportedError: That network would leave something of it out.
        """


def get_gpu_family(name: str, profile: str) -> GpuFamily:
    """Return what a family of head "frames" has for engines that are compiled for a GPU.

    Args:
        name: Of the family.
        profile: The one that is asked for.

    Raises:
        UnsupportedError: It has nothing of the kind.
    """
    family: GpuFamily = _import(name, profile)
    return family


def get_text_gpu_family(name: str, profile: str) -> TextGpuFamily:
    """Return the same of a family of head "text"; arguments as of `get_gpu_family`.

    Raises:
        UnsupportedError: It has nothing of the kind, or the profile's decoder does not generate.
    """
    family: TextGpuFamily = _import(name, profile)
    if get_profile(profile).grounder != "tensorrt_llm":
        raise _refused(name, profile, "no decoder of that profile generates text")
    return family


def _import(name: str, profile: str) -> Any:
    module = f"{__name__}.{name}"
    try:
        family = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # a library that is not installed
            raise
        raise _refused(name, profile) from None
    if hasattr(family, "REFUSED"):
        raise _refused(name, profile, family.REFUSED)
    return family


def _refused(name: str, profile: str, reason: str = "") -> UnsupportedError:
    offered = ", ".join(one.name for one in PROFILES.values() if not one.compiles)
    because = f": {reason}" if reason else ""
    return UnsupportedError(
        f"the family {name} has no engines for the profile {profile}{because}; it has the profiles "
        f"{offered}"
    )
