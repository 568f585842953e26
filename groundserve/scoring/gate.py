"""The gate behind every build: the engines against the PyTorch model they came from.

Shape letters: T frames, P tokens a frame, S visual and text tokens together.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import EngineMismatchError
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.manifest import CHUNK_FRAMES
from groundserve.profiles import Device, Precision

if TYPE_CHECKING:
    from groundserve.families.videoitg.checkpoint import Checkpoint
    from python_backend.engine import EngineDirectory
    from python_backend.ground import Grounder, PackedGrounder

GATE_NAME = "gate.json"
MAX_CPU_TFLOP = 5.0
"""Arithmetic of one pass at the optimum above which a CPU leaves that check out: a minute or so for
the engine and as much for PyTorch on two cores. The released model has 390, `digits` 0.01."""

_NUM_FRAMES = 4
_TEXT_LENGTHS = (12, 33)
_SEED = 20251121
_FAULTS = {
    "features": "the vision engine differs from PyTorch",
    "logits": "the grounding engine differs from PyTorch",
    "leak": "in the grounding engine sequences of one pass see each other",
}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest errors that an engine may have; see `Check.error`."""

    feature_error: float
    """Of pooled features."""
    logit_error: float
    """Of logits."""


# float32 against float32: only the order of additions differs. With 16 bits, PyTorch on a CPU is
# off by up to 1.7e-2 and 9e-3 (bf16), 2.4e-3 and 2.1e-3 (fp16) on the small checkpoints here; a
# mask or a norm in the wrong place, by 0.1 and more.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(feature_error=1e-3, logit_error=1e-3),
    "bf16": Tolerance(feature_error=5e-2, logit_error=5e-2),
    "fp16": Tolerance(feature_error=1e-2, logit_error=1e-2),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One output of the engines at one shape, on seeded noise."""

    output: str
    """"features", "logits", or "leak": by how much logits move with another question's text."""
    shape: str
    """What went in, for people."""
    num_frames: int
    """T."""
    num_tokens: tuple[int, ...]
    """S of each sequence of the pass; none for features."""
    error: float
    """Largest difference, from PyTorch in float32 but for a leak. Of features relative to their
    largest magnitude, of logits to max(1, their largest magnitude)."""
    bound: float
    """Most that it may be."""

    @property
    def passed(self) -> bool:
        """Whether the error is within its bound; NaN is not."""
        return self.error <= self.bound

    def __str__(self) -> str:
        return f"{self.output} of {self.shape}: {self.error:.2e}, at most {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate measured."""

    device: Device
    """Where engines and PyTorch ran."""
    checks: tuple[Check, ...]
    """One for each output and shape."""
    mask_probe: float
    """How far the first frame's logit moves when only the last text token changes."""
    not_run: dict[str, str]
    """Shapes that were left out, and why."""

    @property
    def summary(self) -> str:
        """One line for people."""
        largest = {
            output: max(check.error for check in self.checks if check.output == output)
            for output in ("features", "logits")
        }
        num_tokens = max(sum(check.num_tokens) for check in self.checks)
        left_out = "".join(f"; {shape}: not run, {why}" for shape, why in self.not_run.items())
        return (
            f"features differ by {largest['features']:.1e}, logits by {largest['logits']:.1e} "
            f"(relative), at up to {num_tokens} tokens; mask probe {self.mask_probe:.1e}{left_out}"
        )

    def save(self, engine_dir: Path) -> None:
        """Write it beside the manifest, which does not list it: it is a measurement."""
        (engine_dir / GATE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, engine_dir: Path) -> GateReport | None:
        """Read what was measured, None where the engines never ran against PyTorch.

        Raises:
            EngineMismatchError: The file holds something else.
        """
        path = engine_dir / GATE_NAME
        if not path.is_file():
            return None
        try:
            raw = json.loads(path.read_text("utf-8"))
            checks = tuple(
                Check(**{**check, "num_tokens": tuple(check["num_tokens"])})
                for check in raw.pop("checks")
            )
            return cls(**raw, checks=checks)
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise EngineMismatchError(
                f"{GATE_NAME} is not what groundserve writes; check the engines again with: "
                "groundserve build"
            ) from error


def check_engines(
    engine_dir: Path, checkpoint: str | Path, *, vision_tower: str | Path | None
) -> GateReport:
    """Run the same seeded input through the engines and through PyTorch.

    Raises:
        EngineMismatchError: They differ too much, a sequence of a pass sees another one, or
            attention turned out causal.
    """
    report = measure_engines(engine_dir, checkpoint, vision_tower=vision_tower)
    judge(report)
    return report


def measure_engines(
    engine_dir: Path, checkpoint: str | Path, *, vision_tower: str | Path | None
) -> GateReport:
    """Measure what `check_engines` judges.

    The shapes: four frames with one question; the same with two questions in one pass, for engines
    that pack; and the pass that TensorRT-LLM's kernels are chosen for, the visual budget and 1,024
    tokens of text, with as many frames as fill the budget in one run of the vision plan. On a CPU
    the last is left out where it takes more than `MAX_CPU_TFLOP`.
    """
    from groundserve.families.videoitg.checkpoint import Checkpoint
    from python_backend.engine import EngineDirectory

    engine = EngineDirectory.load(engine_dir)
    opened = Checkpoint.open(checkpoint, vision_tower=vision_tower)
    device = engine.manifest.device
    requests = [_Request.noise(engine.manifest.model, opened, _NUM_FRAMES, _TEXT_LENGTHS)]
    optimum = _optimum(engine.manifest.model, opened)
    not_run = {}
    tflop = _pass_flop(optimum, opened) / 1e12
    if device == "cpu" and tflop > MAX_CPU_TFLOP:
        not_run[optimum.shape] = f"{tflop:.2g} TFLOP a pass are too many for a CPU"
    else:
        requests.append(optimum)
    # PyTorch first, and gone before the engines come: a GPU need not have room for both.
    expected = _run_reference(opened, requests, device)
    _free_memory(device)
    checks, probe = _measure(engine, requests, expected)
    return GateReport(device=device, checks=checks, mask_probe=probe, not_run=not_run)


def judge(report: GateReport) -> None:
    """Refuse engines whose report is not good enough.

    Raises:
        EngineMismatchError: See `check_engines`.
    """
    for check in report.checks:
        if not check.passed:
            raise EngineMismatchError(
                f"{_FAULTS[check.output]}: {check}; the engine directory must not be served"
            )
    if not report.mask_probe > 0:
        raise EngineMismatchError(
            "the grounding engine is causal: the last text token does not reach the first frame"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    """Noise in a request's shapes."""

    frames: NDArray[np.uint8]
    """(T, side, side, 3)."""
    pooling: NDArray[np.float32]
    """(g, s)."""
    text_ids: tuple[NDArray[np.int64], ...]
    """Of each question (L,)."""

    @classmethod
    def noise(
        cls, model: VideoITGSpec, opened: Checkpoint, num_frames: int, text_lengths: Sequence[int]
    ) -> _Request:
        random = np.random.default_rng(_SEED)
        shape = (num_frames, model.image_size, model.image_size, 3)
        grid = grid_side(num_frames, vision_token_num=model.vision_token_num, side=model.side)
        vocab_size = opened.config.vocab_size
        return cls(
            frames=random.integers(0, 256, shape, dtype=np.uint8),
            pooling=pooling_weights(grid, side=model.side),
            text_ids=tuple(random.integers(0, vocab_size, length) for length in text_lengths),
        )

    @property
    def tokens_a_frame(self) -> int:
        return int(self.pooling.shape[0]) ** 2

    @property
    def num_tokens(self) -> tuple[int, ...]:
        num_visual = len(self.frames) * self.tokens_a_frame
        return tuple(num_visual + len(ids) for ids in self.text_ids)

    @property
    def shape(self) -> str:
        lengths = " and ".join(str(length) for length in self.num_tokens)
        return f"{len(self.frames)} frames, {lengths} tokens in one pass"

    def first(self) -> _Request:
        """Return the same with the first question alone."""
        return replace(self, text_ids=self.text_ids[:1])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Expected:
    """What PyTorch computes of a request."""

    features: NDArray[np.float32]
    """(T, P, D_v)."""
    logits: NDArray[np.float32]
    """(questions, T)."""


def _optimum(model: VideoITGSpec, opened: Checkpoint) -> _Request:
    """Return the request of the token count that TensorRT-LLM's engines are built for."""
    from engine_build.trtllm.limits import opt_num_tokens

    def num_visual(num_frames: int) -> int:
        budget = model.vision_token_num
        return num_frames * grid_side(num_frames, vision_token_num=budget, side=model.side) ** 2

    num_tokens = opt_num_tokens(model)
    counts = range(1, min(CHUNK_FRAMES, model.vision_token_num) + 1)
    # The last token at least is text. A checkpoint may hold fewer tokens than its visual budget.
    fitting = [count for count in counts if num_visual(count) < num_tokens]
    num_frames = max(fitting, key=lambda count: (num_visual(count), count))
    return _Request.noise(model, opened, num_frames, (num_tokens - num_visual(num_frames),))


def _pass_flop(request: _Request, opened: Checkpoint) -> float:
    tower, config = opened.vision_config, opened.config
    num_layers = tower.num_layers_used(config.mm_vision_select_layer)
    (num_tokens,) = request.num_tokens
    return len(request.frames) * tower.frame_flop(num_layers) + config.decoder_flop(num_tokens)


def _run_reference(
    opened: Checkpoint, requests: Sequence[_Request], device: Device
) -> list[_Expected]:
    """Run PyTorch in float32, on a GPU with one layer of the decoder there at a time."""
    from python_backend.arrays import to_host
    from python_backend.encode import TorchEncoder
    from python_backend.ground import TorchGrounder

    encoder = TorchEncoder(opened.load_vision(), device=device)
    features = [to_host(encoder.encode(one.frames, one.pooling)) for one in requests]
    del encoder
    grounder = TorchGrounder(opened.load_grounding(), device=device, in_turn=device != "cpu")
    return [
        _Expected(
            features=one,
            logits=np.stack([grounder.ground(one, text_ids) for text_ids in request.text_ids]),
        )
        for request, one in zip(requests, features, strict=True)
    ]


def _free_memory(device: Device) -> None:
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _measure(
    engine: EngineDirectory, requests: Sequence[_Request], expected: Sequence[_Expected]
) -> tuple[tuple[Check, ...], float]:
    """Return the checks of every request and the mask probe."""
    from python_backend.arrays import to_host
    from python_backend.ground import PackedGrounder

    tolerance = TOLERANCES[engine.manifest.precision]
    encoder, grounder = engine.open_encoder(num_threads=2), engine.open_grounder(num_threads=2)
    checks = []
    for request, wanted in zip(requests, expected, strict=True):
        features = to_host(encoder.encode(request.frames, request.pooling))
        checks.append(
            Check(
                output="features",
                shape=f"{len(request.frames)} frames of {request.tokens_a_frame} tokens",
                num_frames=len(request.frames),
                num_tokens=(),
                error=_relative_error(features, wanted.features, floor=1e-6),
                bound=tolerance.feature_error,
            )
        )
        # Fed with PyTorch's features, so that each stage answers for itself.
        alone = grounder.ground(wanted.features, request.text_ids[0])[None]
        checks.append(_logit_check(request.first(), alone, wanted.logits[:1], tolerance))
        if len(request.text_ids) > 1 and isinstance(grounder, PackedGrounder):
            packed = grounder.ground_packed(wanted.features, request.text_ids)
            checks.append(_logit_check(request, packed, wanted.logits, tolerance))
            checks.append(_leak_check(request, grounder, wanted.features, packed))
    return tuple(checks), _mask_probe(grounder, requests[0], expected[0].features)


def _logit_check(
    request: _Request,
    logits: NDArray[np.float32],
    expected: NDArray[np.float32],
    tolerance: Tolerance,
) -> Check:
    return Check(
        output="logits",
        shape=request.shape,
        num_frames=len(request.frames),
        num_tokens=request.num_tokens,
        error=_relative_error(logits, expected, floor=1.0),
        bound=tolerance.logit_error,
    )


def _leak_check(
    request: _Request,
    grounder: PackedGrounder,
    features: NDArray[np.float32],
    packed: NDArray[np.float32],
) -> Check:
    """Change the last question: the kernels and the order of additions stay, so the bits must."""
    *others, last = request.text_ids
    moved = grounder.ground_packed(features, [*others, last[::-1].copy()])
    return Check(
        output="leak",
        shape=request.shape,
        num_frames=len(request.frames),
        num_tokens=request.num_tokens,
        error=_relative_error(moved[:-1], packed[:-1], floor=1.0),
        bound=0.0,
    )


def _mask_probe(grounder: Grounder, request: _Request, features: NDArray[np.float32]) -> float:
    text_ids = request.text_ids[0]
    changed = text_ids.copy()
    changed[-1] = changed[-1] - 1 if changed[-1] else 1
    before, after = (grounder.ground(features, ids)[0] for ids in (text_ids, changed))
    return float(abs(after - before))


def _relative_error(got: NDArray[Any], expected: NDArray[np.float32], *, floor: float) -> float:
    if got.shape != expected.shape:
        raise EngineMismatchError(
            f"an engine gave an output of shape {got.shape} where PyTorch has {expected.shape}; "
            "the engine directory must not be served"
        )
    return float(np.abs(got - expected).max() / max(floor, np.abs(expected).max()))
