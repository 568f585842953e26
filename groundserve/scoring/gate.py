"""The gate behind every build: the engines against the PyTorch model they came from.

Shape letters: T frames, U units, P tokens a unit, S visual and text tokens together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import Manifest
from groundserve.errors import EngineMismatchError
from groundserve.families import open_checkpoint
from groundserve.families.base import FamilyCheckpoint, TextCheckpoint
from groundserve.families.contract import check_features, check_logits
from groundserve.scoring.comparison import TOLERANCES as TOLERANCES
from groundserve.scoring.comparison import (
    check_shape,
    compared_units,
    fill_between,
    free_memory,
    relative_error,
)
from groundserve.scoring.gate_report import Check, GateReport
from groundserve.scoring.noise import NoiseRequest, usual_request
from groundserve.scoring.rounded_models import encode_rounded
from groundserve.scoring.text_gate import measure_text
from python_backend.arrays import to_host
from python_backend.encode.torch import TorchEncoder
from python_backend.engine import EngineDirectory
from python_backend.ground import Grounder
from python_backend.ground.torch import TorchGrounder

MAX_CPU_TFLOP = 5.0
"""Arithmetic of one pass at the optimum above which a CPU leaves that check out: a minute or so for
the engine and as much for PyTorch on two cores. The released model has 390, `digits` 0.01."""

_NUM_FRAMES = 4
_TEXT_LENGTHS = (12,)
_FAULTS = {
    "features": "the vision engine differs from PyTorch",
    "logits": "the grounding engine differs from PyTorch",
    "next_logits": "the decoder's engine differs from PyTorch",
    "next_tokens": "the decoder's engine picks other tokens than PyTorch",
}
_INT8_FACTOR = 2.0
"""Error of an engine in int8 over that of the same roundings in PyTorch, at most: 0.8 to 1.1 seen.
A value next to the middle between two steps goes either way, and later layers with it."""


def check_engines(
    engine_dir: Path,
    checkpoint: str | Path,
    *,
    vision_tower: str | Path | None = None,
    family: str | None = None,
    parts: Mapping[str, Sequence[str | Path]] | None = None,
    must_pass: bool = True,
) -> GateReport:
    """Run the same seeded input through the engines and through PyTorch.

    The shapes of a head of frames: four frames with one question; and `usual_request`, which on a
    CPU is left out where it takes more than `MAX_CPU_TFLOP`. Those of a head of text: see
    `measure_text`.

    `checkpoint` and the next three are what `engine_build.build` took. Engines that are not good
    enough are refused, as by `judge`, where they `must_pass`.

    Raises:
        EngineMismatchError: As `judge`; an output has another shape than PyTorch's; or 8 bits are
            too coarse for the checkpoint.
        GroundserveError: PyTorch's are not what `groundserve.families.base` says of them.
    """
    engine = EngineDirectory.load(engine_dir)
    _, opened = open_checkpoint(checkpoint, vision_tower=vision_tower, family=family, parts=parts)
    if engine.manifest.head == "text":
        report = measure_text(engine, cast(TextCheckpoint, opened))
    else:
        report = _measure_frames(engine, cast(FamilyCheckpoint, opened))
    if must_pass:
        judge(report)
    return report


def _measure_frames(engine: EngineDirectory, opened: FamilyCheckpoint) -> GateReport:
    manifest = engine.manifest
    family, spec, device = manifest.frames_seam, manifest.model, manifest.device
    size = {"vocab_size": opened.vocab_size}
    small = NoiseRequest.make(
        family, spec, **size, num_frames=_NUM_FRAMES, text_lengths=_TEXT_LENGTHS
    )
    usual = usual_request(family, spec, **size)
    requests, not_run = [small], {}
    flop = len(usual.plan.units) * opened.vision_flop() + opened.decoder_flop(*usual.num_tokens)
    tflop = flop / 1e12
    if device == "cpu" and tflop > MAX_CPU_TFLOP:
        not_run[usual.shape] = f"{tflop:.2g} TFLOP a pass are too many for a CPU"
    else:
        requests.append(usual)
    # PyTorch first, and gone before the engines come: a GPU need not have room for both.
    expected = run_reference(opened, requests, manifest)
    free_memory(device)
    checks, probe = _measure(engine, requests, expected)
    return GateReport(device=device, checks=checks, mask_probe=probe, not_run=not_run)


def judge(report: GateReport) -> None:
    """Refuse engines that differ too much, or whose attention turned out causal."""
    for check in report.checks:
        if not check.passed:
            raise EngineMismatchError(
                f"{_FAULTS[check.output]}: {check}; the engine directory must not be served"
            )
    if report.mask_probe is not None and not report.mask_probe > 0:
        raise EngineMismatchError(
            "the grounding engine is causal: the last text token does not reach the first frame"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What PyTorch computes of a request."""

    features: NDArray[np.float32]
    """(U, P, D): PyTorch's at `units`, in between what lies between those."""
    units: NDArray[np.int64]
    """Of which the engine's features are compared, the first and the last among them."""
    logits: NDArray[np.float32]
    """(questions, T)."""
    feature_bound: float


def run_reference(
    opened: FamilyCheckpoint, requests: Sequence[NoiseRequest], manifest: Manifest
) -> list[Expected]:
    """Run each request in PyTorch in float32, its questions one after another.

    On a GPU one layer of the decoder is there at a time. Errors are as of `check_engines`.
    """
    family, device, precision = manifest.frames_seam, manifest.device, manifest.precision
    units = [compared_units(len(request.plan.units), device) for request in requests]
    inputs = [request.of_units(numbers) for request, numbers in zip(requests, units, strict=True)]
    encoder = TorchEncoder(opened.load_vision(), device=device)
    encoded = [to_host(encoder.encode(*one)) for one in inputs]
    for one, numbers in zip(encoded, units, strict=True):
        check_features(family, manifest.model, one, num_units=len(numbers))
    del encoder
    bounds = [TOLERANCES[precision].feature_error] * len(requests)
    if precision == "int8":
        bounds = [
            _int8_bound(opened, one, exact, num_frames=request.num_frames)
            for request, one, exact in zip(requests, inputs, encoded, strict=True)
        ]
    features = list(map(fill_between, encoded, units))
    in_turn = device != "cpu"
    grounder = TorchGrounder(opened.load_grounding(), device=device, in_turn=in_turn)
    expected = []
    for request, one, numbers, bound in zip(requests, features, units, bounds, strict=True):
        logits = [grounder.ground(one, text_ids) for text_ids in request.text_ids]
        for of_question in logits:
            check_logits(family, of_question, num_frames=request.num_frames)
        expected.append(
            Expected(features=one, units=numbers, logits=np.stack(logits), feature_bound=bound)
        )
    return expected


def _int8_bound(
    opened: FamilyCheckpoint,
    inputs: Sequence[NDArray[Any]],
    features: NDArray[np.float32],
    *,
    num_frames: int,
) -> float:
    """Return how far an engine in int8 may be from features in float32, if 8 bits do at all."""
    rounded = encode_rounded(opened.load_vision(), inputs)
    error = relative_error(rounded, features, floor=1e-6)
    most = TOLERANCES["int8"].feature_error
    if not error <= most:
        raise EngineMismatchError(
            f"int8 is too coarse for this checkpoint: features of {num_frames} frames "
            f"differ by {error:.2e} in PyTorch, at most {most:g}; build it in fp32"
        )
    return _INT8_FACTOR * error


def _measure(
    engine: EngineDirectory, requests: Sequence[NoiseRequest], expected: Sequence[Expected]
) -> tuple[tuple[Check, ...], float]:
    """Return the checks of every request and the mask probe."""
    bound = TOLERANCES[engine.manifest.precision].logit_error
    encoder, grounder = engine.open_encoder(num_threads=2), engine.open_grounder(num_threads=2)
    checks = []
    for request, wanted in zip(requests, expected, strict=True):
        features = to_host(encoder.encode(*request.inputs))
        check_shape(features, wanted.features)
        shape = f"{request.num_frames} frames of {features.shape[1]} tokens"
        error = relative_error(features[wanted.units], wanted.features[wanted.units], floor=1e-6)
        checks.append(
            request.check("features", error=error, bound=wanted.feature_bound, shape=shape)
        )
        # Fed with PyTorch's features, so that each stage answers for itself.
        alone = grounder.ground(wanted.features, request.text_ids[0])[None]
        error = relative_error(alone, wanted.logits, floor=1.0)
        checks.append(request.check("logits", error=error, bound=bound))
    return tuple(checks), _mask_probe(grounder, requests[0], expected[0].features)


def _mask_probe(grounder: Grounder, request: NoiseRequest, features: NDArray[np.float32]) -> float:
    text_ids = request.text_ids[0]
    changed = text_ids.copy()
    changed[-1] = changed[-1] - 1 if changed[-1] else 1
    before, after = (grounder.ground(features, ids)[0] for ids in (text_ids, changed))
    return float(abs(after - before))
