"""What the gate measured, as an engine directory keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from groundserve.engines.profiles import Device
from groundserve.errors import EngineMismatchError

GATE_NAME = "gate.json"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One output of the engines at one shape, on seeded noise."""

    output: str
    """"features"; of a head of frames "logits", or "leak": by how much logits move with another
    question's text; of a head of text "next_logits", or "next_tokens": by how much PyTorch's logit
    of the engine's choice is below that of its own."""
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

    @property
    def passed(self) -> bool:
        """Whether the error is within its bound; NaN is not."""
        return self.error <= self.bound

    def __str__(self) -> str:
        return f"{self.output} of {self.shape}: {self.error:.2e}, at most {self.bound:.2g}"


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate measured."""

    device: Device
    checks: tuple[Check, ...]
    """One for each output and shape."""
    mask_probe: float | None
    """How far the first frame's logit moves when only the last text token changes; None of a head
    of text, whose decoder is causal."""
    not_run: dict[str, str]
    """Shapes that were left out, and why."""

    @property
    def summary(self) -> str:
        """One line for people."""
        largest: dict[str, float] = {}
        for check in self.checks:
            largest[check.output] = max(check.error, largest.get(check.output, 0.0))
        num_tokens = max(sum(check.num_tokens) for check in self.checks)
        left_out = "".join(f"; {shape}: not run, {why}" for shape, why in self.not_run.items())
        features = f"features differ by {largest['features']:.1e}"
        logits = largest.get("logits", largest.get("next_logits"))
        if logits is None:  # of engines that cannot be run without a server
            return f"{features} (relative){left_out}"
        probe = "" if self.mask_probe is None else f"; mask probe {self.mask_probe:.1e}"
        return (
            f"{features}, logits by {logits:.1e} (relative), at up to {num_tokens} tokens"
            f"{probe}{left_out}"
        )

    def save(self, engine_dir: Path) -> None:
        """Write it beside the manifest, which does not list it: it is a measurement."""
        (engine_dir / GATE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, engine_dir: Path) -> GateReport | None:
        """Read what was measured, None where the engines never ran against PyTorch."""
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
