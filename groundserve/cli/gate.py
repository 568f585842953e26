"""The gate behind every build: the engines against the PyTorch model they came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import EngineMismatchError
from groundserve.grid import grid_side, pooling_weights
from groundserve.manifest import ModelSpec

_NUM_FRAMES = 4
_NUM_TEXT_TOKENS = 12
# float32 against float32: only the order of additions differs.
_MAX_FEATURE_ERROR = 1e-3
_MAX_LOGIT_ERROR = 1e-3
_SEED = 20251121


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate measured on seeded noise."""

    feature_error: float
    """Largest difference of pooled features, relative to their largest magnitude."""
    logit_error: float
    """Largest difference of logits, relative to max(1, their largest magnitude)."""
    mask_probe: float
    """How far the first frame's logit moves when only the last text token changes."""


def check_engines(
    engine_dir: Path, checkpoint: str | Path, *, vision_tower: str | Path | None
) -> GateReport:
    """Run the same seeded input through the engines and through PyTorch.

    Raises:
        EngineMismatchError: They differ too much, or attention turned out causal.
    """
    from groundserve.modeling.checkpoint import Checkpoint
    from python_backend.encode import TorchEncoder
    from python_backend.engine import EngineDirectory
    from python_backend.ground import TorchGrounder

    engine = EngineDirectory.load(engine_dir)
    opened = Checkpoint.open(checkpoint, vision_tower=vision_tower)
    model = engine.manifest.model
    frames, text_ids = _noise(model, opened.config.vocab_size)
    grid = grid_side(len(frames), vision_token_num=model.vision_token_num, side=model.side)
    pooling = pooling_weights(grid, side=model.side)
    expected = TorchEncoder(opened.load_vision()).encode(frames, pooling)
    features = engine.open_encoder(num_threads=2).encode(frames, pooling)
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
    _judge(report)
    return report


def _noise(model: ModelSpec, vocab_size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(_SEED)
    shape = (_NUM_FRAMES, model.image_size, model.image_size, 3)
    frames = random.integers(0, 256, shape, dtype=np.uint8)
    return frames, random.integers(0, vocab_size, _NUM_TEXT_TOKENS)


def _relative_error(
    got: NDArray[np.float32], expected: NDArray[np.float32], *, floor: float
) -> float:
    return float(np.abs(got - expected).max() / max(floor, np.abs(expected).max()))


def _judge(report: GateReport) -> None:
    # Written so that NaN fails.
    if not report.feature_error <= _MAX_FEATURE_ERROR:
        raise EngineMismatchError(
            f"the vision engine differs from PyTorch by {report.feature_error:.2e}, "
            f"more than {_MAX_FEATURE_ERROR:g}; the engine directory must not be served"
        )
    if not report.logit_error <= _MAX_LOGIT_ERROR:
        raise EngineMismatchError(
            f"the grounding engine differs from PyTorch by {report.logit_error:.2e}, "
            f"more than {_MAX_LOGIT_ERROR:g}; the engine directory must not be served"
        )
    if not report.mask_probe > 0:
        raise EngineMismatchError(
            "the grounding engine is causal: the last text token does not reach the first frame"
        )
