"""How far engines may be from PyTorch, by their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from groundserve.engines.profiles import Precision


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest errors that an engine may have; see `Check.error`."""

    feature_error: float
    logit_error: float


# float32 against float32: only the order of additions differs. With 16 bits, PyTorch on a CPU is
# off by up to 1.7e-2 and 9e-3 (bf16), 2.4e-3 and 2.1e-3 (fp16) on the small checkpoints here; a
# mask or a norm in the wrong place, by 0.1 and more.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(feature_error=1e-3, logit_error=1e-3),
    "bf16": Tolerance(feature_error=5e-2, logit_error=5e-2),
    "fp16": Tolerance(feature_error=1e-2, logit_error=1e-2),
    # What int8 may cost a checkpoint: 7e-3 to 5e-2 on those here. What it does cost is computed in
    # PyTorch, and engines are held to that. Grounding is in float32.
    "int8": Tolerance(feature_error=1e-1, logit_error=1e-3),
    # Of the decoder alone, whose engine is held to the same roundings in PyTorch.
    "int4": Tolerance(feature_error=1e-3, logit_error=1e-3),
}
