"""Under which name something of a video is kept: a hash of all that decides its value."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve._version import __version__
from groundserve.engines.manifest import Manifest
from groundserve.errors import MissingExtraError
from groundserve.families.plans import VideoPlan
from groundserve.limits import Limits


@dataclass(frozen=True, kw_only=True)
class CacheKeys:
    """The keys of one video on one server."""

    identity: str
    """`VideoSource.identity`."""
    manifest: Manifest
    """Only what the encoder depends on counts."""
    limits: Limits
    """A video past them is refused when it is probed, so under others it is probed again."""

    def index(self) -> str:
        """The key of the video's index, 64 hex digits."""
        return _hash("index", self.identity, decoder_versions(), asdict(self.limits))

    def features(self, plan: VideoPlan) -> str:
        """The key of the features of a plan's units, 64 hex digits."""
        return _hash(
            "features",
            self.identity,
            decoder_versions(),
            # PyAV decodes what DALI cannot.
            "pyav" if self.manifest.decoder == "pyav" else f"dali {dali_version()} mixed",
            # Not the whole engine's: another grounder leaves features as they are.
            self.manifest.encoder_identity,
            [asdict(stream) for stream in self.manifest.seam.streams(self.manifest.model)],
            {name: _content(array) for name, array in plan.inputs.items()},
            _content(plan.units),
            # The frames themselves and not the options: whatever rule picks the same frames shares
            # the entry.
            _content(plan.decoded_indices),
        )


@cache
def dali_version() -> str:
    """Return DALI's version without importing it; its package is named after a CUDA version."""
    for distribution in importlib.metadata.distributions():
        if distribution.name.startswith("nvidia-dali-"):
            return distribution.version
    raise MissingExtraError("dali", "nvidia.dali")


@cache
def decoder_versions() -> tuple[str, ...]:
    """Return which software reads and resizes frames, without importing it."""
    # FFmpeg by the names of the libraries in PyAV's wheel, which end in version and hash: one
    # version of PyAV comes with several, which may decode to different bits.
    ffmpeg = sorted(
        path.name for path in importlib.metadata.files("av") or [] if path.parts[0] == "av.libs"
    )
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("av", "pillow")]
    return (f"groundserve {__version__}", *packages, *ffmpeg)


def _content(array: NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    """Return what tells an array from all others: dtype, shape, hash of its bytes."""
    # 512 numbers as bytes take microseconds; as JSON, which needs each as text, a hundred.
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return array.dtype.str, array.shape, digest


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
