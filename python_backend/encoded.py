"""What decode and vision stages make of a video, and what the cache keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from python_backend.arrays import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedVideo:
    """The units of one plan, encoded."""

    features: Array
    """(U, P, D), where the encoder left them: float32, or float16 from an engine of 16 bits."""
    decoders: list[str]
    """What decoded the frames, each once: `DecodedFrames.decoder`."""
