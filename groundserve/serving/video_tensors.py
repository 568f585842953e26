"""How large the tensors of one video are that the models of a server hand each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from groundserve.families.base import Family, ModelSpec
from groundserve.families.vision_inputs import max_chunk_bytes
from groundserve.limits import Limits


@dataclass(frozen=True, kw_only=True)
class VideoTensors:
    """Sizes of what goes into the vision stage and comes out of it."""

    stream_names: frozenset[str]
    """Of the tensors that hold frames."""
    image_size: int
    """S of the largest frames, in pixels; 0 where all stay as decoded."""
    chunk_bytes: int
    """Frames of a chunk, in all streams, at most."""
    plan_input_bytes: int
    """What of the plan goes with each unit, at most."""
    num_features: int
    """Numbers in FEATURES of a whole video, at most."""

    @classmethod
    def of(cls, family: Family[Any, Any], model: ModelSpec, limits: Limits) -> VideoTensors:
        """Ask a family.

        Args:
            family: Of the engines.
            model: Dimensions of the checkpoint: `Manifest.model`.
            limits: Ceilings of a request: they decide the largest frame as decoded.
        """
        streams = family.streams(model)
        return cls(
            stream_names=frozenset(stream.name for stream in streams),
            image_size=max(stream.size or 0 for stream in streams),
            chunk_bytes=sum(max_chunk_bytes(stream, limits) for stream in streams),
            plan_input_bytes=sum(one.max_bytes for one in family.plan_inputs(model)),
            num_features=model.max_feature_tokens * model.feature_width,
        )
