"""What a Triton model is, in Triton's own words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from groundserve.engines.profiles import Device

PLAN_NAME = "model.plan"
"""File of the vision encoder's TensorRT plan in the model's version folder."""

DataType = Literal["UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output."""

    name: str
    data_type: DataType
    """Triton's type name, without its prefix `TYPE_`."""
    dims: tuple[int, ...]
    """Shape without the batch dimension; -1 varies."""
    optional: bool = False
    """Whether a request may leave this input out."""


@dataclass(frozen=True, kw_only=True)
class WarmupSpec:
    """A batch of zeros that is run before the model counts as loaded."""

    batch_size: int
    dims: dict[str, tuple[int, ...]]
    """Shape of each input without the batch dimension."""


@dataclass(frozen=True, kw_only=True)
class TritonModelSpec:
    """One model of the repository."""

    name: str
    """Name of the model and of its folder."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    """Largest batch; 0 where shapes have no batch dimension."""
    backend: Literal["python", "tensorrt"] = "python"
    """What runs it; an ensemble has none."""
    device: Device = "cpu"
    """Where its instances run and, for a Python model, whether its inputs may lie on the GPU."""
    is_decoupled: bool = False
    """Whether it sends several responses a request."""
    num_instances: int = 1
    """Instances side by side; each of a Python model is a process."""
    max_queue_delay_microseconds: int | None = None
    """How long a request may wait for others to be merged with; no merging where None. There are no
    preferred sizes: an engine has one optimisation profile, so a batch of any size is as good as
    its size."""
    parameters: dict[str, str] = field(default_factory=dict)
    warmup: WarmupSpec | None = None
    """Run by the server before the model is ready. Python models warm themselves up."""
    steps: tuple[TritonModelSpec, ...] = ()
    """Models an ensemble runs; tensors of equal name are connected. Empty for a Python model."""

    @property
    def is_ensemble(self) -> bool:
        """Whether the server itself runs the model, without code of ours."""
        return bool(self.steps)
