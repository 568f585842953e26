"""The profiles: which implementation and precision each stage has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from groundserve.errors import UnsupportedError

ProfileName = Literal["cpu", "torch"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One way to run the three heavy stages."""

    name: ProfileName
    decoder: Literal["pyav"]
    """Demultiplexed segments -> resized frames."""
    encoder: Literal["onnxruntime", "torch"]
    """Frames -> pooled features."""
    grounder: Literal["onnxruntime", "torch"]
    """Features + question -> logits."""
    precision: Precision
    """Arithmetic of encoder and grounder on this profile's default device."""


PROFILES: dict[str, Profile] = {
    "cpu": Profile(
        name="cpu",
        decoder="pyav",
        encoder="onnxruntime",
        grounder="onnxruntime",
        precision="fp32",
    ),
    "torch": Profile(
        name="torch", decoder="pyav", encoder="torch", grounder="torch", precision="fp32"
    ),
}


def get_profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises:
        UnsupportedError: There is no such profile.
    """
    if name not in PROFILES:
        raise UnsupportedError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return PROFILES[name]
