"""How large the tensors of one video are that the models of a server hand each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from groundserve.families.base import FramesFamily, ModelSpec


@dataclass(frozen=True, kw_only=True)
class VideoTensors:
    """Sizes of what goes into the vision stage and comes out of it."""

    stream_names: frozenset[str]
    """Of the tensors that hold frames."""
    image_size: int
    """S of the largest frames, in pixels."""
    unit_bytes: int
    """Frames of one unit, in all streams."""
    plan_input_bytes: int
    """What of the plan goes with each unit, at most."""
    num_features: int
    """Numbers in FEATURES of a whole video, at most."""

    @classmethod
    def of(cls, family: FramesFamily[Any, Any], model: ModelSpec) -> VideoTensors:
        """Ask a family.

        Args:
            family: Of the engines.
            model: Dimensions of the checkpoint: `Manifest.model`.
        """
        streams = family.streams(model)
        return cls(
            stream_names=frozenset(stream.name for stream in streams),
            image_size=max(stream.shape(1)[-2] for stream in streams),
            unit_bytes=sum(math.prod(stream.shape(1)) for stream in streams),
            plan_input_bytes=sum(one.max_bytes for one in family.plan_inputs(model)),
            num_features=model.max_visual_tokens * model.feature_width,
        )
