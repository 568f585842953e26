"""The gate behind every build: the engines against the PyTorch model they came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import EngineMismatchError
from groundserve.grid import grid_side, pooling_weights
from groundserve.manifest import ModelSpec
from groundserve.profiles import Precision

GATE_NAME = "gate.json"
_NUM_FRAMES = 4
_NUM_TEXT_TOKENS = 12
_SEED = 20251121


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest errors that an engine may have."""

    feature_error: float
    """See `GateReport`."""
    logit_error: float
    """See `GateReport`."""


# float32 against float32: only the order of additions differs. With 16 bits, PyTorch on a CPU is
# off by up to 1.7e-2 and 9e-3 (bf16), 2.4e-3 and 2.1e-3 (fp16) on the small checkpoints here; a
# mask or a norm in the wrong place, by 0.1 and more.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(feature_error=1e-3, logit_error=1e-3),
    "bf16": Tolerance(feature_error=5e-2, logit_error=5e-2),
    "fp16": Tolerance(feature_error=1e-2, logit_error=1e-2),
}


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate measured on seeded noise."""

    feature_error: float
    """Largest difference of pooled features, relative to their largest magnitude."""
    logit_error: float
    """Largest difference of logits, relative to max(1, their largest magnitude)."""
    mask_probe: float
    """How far the first frame's logit moves when only the last text token changes."""

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"features differ by {self.feature_error:.1e}, logits by {self.logit_error:.1e} "
            f"(relative); mask probe {self.mask_probe:.1e}"
        )

    def save(self, engine_dir: Path) -> None:
        """Write it beside the manifest, which does not list it: it is a measurement."""
        (engine_dir / GATE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, engine_dir: Path) -> GateReport | None:
        """Read what was measured, None where the engines never ran against PyTorch."""
        path = engine_dir / GATE_NAME
        return cls(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def check_engines(
    engine_dir: Path, checkpoint: str | Path, *, vision_tower: str | Path | None
) -> GateReport:
    """Run the same seeded input through the engines and through PyTorch.

    Raises:
        EngineMismatchError: They differ too much, or attention turned out causal.
    """
    from groundserve.modeling.checkpoint import Checkpoint
    from python_backend.arrays import to_host
    from python_backend.encode import TorchEncoder
    from python_backend.engine import EngineDirectory
    from python_backend.ground import TorchGrounder

    engine = EngineDirectory.load(engine_dir)
    opened = Checkpoint.open(checkpoint, vision_tower=vision_tower)
    model = engine.manifest.model
    frames, text_ids = _noise(model, opened.config.vocab_size)
    grid = grid_side(len(frames), vision_token_num=model.vision_token_num, side=model.side)
    pooling = pooling_weights(grid, side=model.side)
    expected = to_host(TorchEncoder(opened.load_vision()).encode(frames, pooling))
    features = to_host(engine.open_encoder(num_threads=2).encode(frames, pooling))
    reference = TorchGrounder(opened.load_grounding())
    grounder = engine.open_grounder(num_threads=2)
    logits = grounder.ground(expected, text_ids)
    changed = text_ids.copy()
    changed[-1] = (changed[-1] + 1) % opened.config.vocab_size
    report = GateReport(
        feature_error=_relative_error(features, expected, floor=1e-6),
        logit_error=_relative_error(logits, reference.ground(expected, text_ids), floor=1.0),
        mask_probe=float(abs(grounder.ground(expected, changed)[0] - logits[0])),
    )
    _judge(report, TOLERANCES[engine.manifest.precision])
    return report


def _noise(model: ModelSpec, vocab_size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(_SEED)
    shape = (_NUM_FRAMES, model.image_size, model.image_size, 3)
    frames = random.integers(0, 256, shape, dtype=np.uint8)
    return frames, random.integers(0, vocab_size, _NUM_TEXT_TOKENS)


def _relative_error(got: NDArray[Any], expected: NDArray[np.float32], *, floor: float) -> float:
    return float(np.abs(got - expected).max() / max(floor, np.abs(expected).max()))


def _judge(report: GateReport, tolerance: Tolerance) -> None:
    # Written so that NaN fails.
    if not report.feature_error <= tolerance.feature_error:
        raise EngineMismatchError(
            f"the vision engine differs from PyTorch by {report.feature_error:.2e}, "
            f"more than {tolerance.feature_error:g}; the engine directory must not be served"
        )
    if not report.logit_error <= tolerance.logit_error:
        raise EngineMismatchError(
            f"the grounding engine differs from PyTorch by {report.logit_error:.2e}, "
            f"more than {tolerance.logit_error:g}; the engine directory must not be served"
        )
    if not report.mask_probe > 0:
        raise EngineMismatchError(
            "the grounding engine is causal: the last text token does not reach the first frame"
        )
