"""What the vision stage of one model takes: its tensors' names, their order and their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import UnsupportedError
from groundserve.families.base import FramesFamily, FrameStream, ModelSpec, PlanInput, VideoPlan


@dataclass(frozen=True, kw_only=True)
class VisionInputs:
    """The inputs in the order in which every stage takes them: frames, then what is of the plan."""

    stream: FrameStream
    """The frames: a decoder resizes each in one way."""
    plan_inputs: tuple[PlanInput, ...]
    """The others."""

    @classmethod
    def of(cls, family: FramesFamily[Any, Any], spec: ModelSpec) -> Self:
        """Ask a family.

        Args:
            family: Whose vision stage it is.
            spec: Of the model, the family's `spec_type`.

        Raises:
            UnsupportedError: It takes several streams, or frames of no fixed size.
        """
        streams = family.streams(spec)
        if len(streams) != 1 or streams[0].size is None:
            sizes = ", ".join(f"{one.name} ({one.size or 'any size'})" for one in streams)
            raise UnsupportedError(
                "one stream of frames in a fixed size is decoded, the family "
                f"{family.name} takes {sizes}"
            )
        return cls(stream=streams[0], plan_inputs=family.plan_inputs(spec))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return (self.stream.name, *(one.name for one in self.plan_inputs))

    def of_plan(self, plan: VideoPlan) -> tuple[NDArray[np.float32], ...]:
        """Return the arrays of `plan_inputs` for one request."""
        return tuple(plan.inputs[one.name] for one in self.plan_inputs)
