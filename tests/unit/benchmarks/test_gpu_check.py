"""The GPU check: what its parts compute, and the report around them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import python_backend.checkpoint  # noqa: F401  # takes classes that a test replaces, before it does
from benchmarks.gpu.engines import check_engines
from benchmarks.gpu.models import Bench
from benchmarks.gpu.report import Part, Report
from benchmarks.gpu.size import FULL, SMALL
from benchmarks.gpu_check import (
    judge,
)
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.support.reference import REPOSITORY


@pytest.mark.parametrize(
    ("num_frames", "grid", "vision_tflop", "grounding_tflop", "tokens"),
    [
        (64, 16, 41.1, 324.2 + 0.55, 16484),
        (256, 8, 164.3, 324.2 + 0.55, 16484),
        (512, 5, 328.6, 235.2 + 0.43, 12900),
        (1024, 4, 657.2, 324.2 + 0.55, 16484),
    ],
    ids=["T=64", "T=256", "T=512", "T=1024"],
)
def test_full_size_arithmetic_equals_the_specified_figures(
    num_frames, grid, vision_tflop, grounding_tflop, tokens
):
    assert FULL.grid(num_frames) == grid
    assert FULL.num_tokens(num_frames) == tokens
    assert FULL.vision_flop(num_frames) / 1e12 == pytest.approx(vision_tflop, abs=0.06)
    assert FULL.grounding_flop(num_frames) / 1e12 == pytest.approx(grounding_tflop, abs=0.06)


def part(name: str, **fields) -> Part:
    return Part(name=name, seconds=0, target="", **fields)


def request_of(cold_ms: float, repeat_ms: float) -> dict:
    return {"cold": {"median_ms": cold_ms}, "ground_is_repeat": {"median_ms": repeat_ms}}


@pytest.mark.parametrize(
    ("cold_ms", "repeat_ms", "ratio", "met"),
    [(1200.0, 450.0, 1.3, [True] * 3), (1200.1, 450.1, 1.29, [False] * 3)],
    ids=["at the limits", "past the limits"],
)
def test_judge_at_full_size(tmp_path, cold_ms, repeat_ms, ratio, met):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=60)
    measured = {"main request": request_of(cold_ms, repeat_ms), "reference": {"ratio_cold": ratio}}
    measured["kernel orders"] = {"cudnn": request_of(900.0, 400.0)}
    for name, row in measured.items():
        report.run(part(name), lambda part, row=row: {"status": "ok", "results": row})

    targets = judge(report, FULL)

    assert [target["met"] for target in targets] == met
    assert targets[0]["best"] == ("cudnn first", 900.0)


def test_engines_of_pytorch_are_as_the_reference(engines_of):
    engine_dir = engines_of(SHIPPED_CHECKPOINT, "torch")
    result = check_engines(Bench(size=SMALL, device="cpu"), engine_dir, None)
    # The same sums; the engine's batches may add them in another order.
    assert max(result["logit_relative_error"].values()) < 1e-5
    assert list(result["logit_relative_error"]) == ["1", "7", "128", "1000"]
    assert result["mask_probe"] > 0


def test_import_needs_neither_torch_nor_media_nor_server_packages():
    program = (
        "import sys, benchmarks.gpu_check;"
        "print(sorted({'torch', 'av', 'tritonclient', 'typer', 'nvidia.dali', 'tensorrt'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(REPOSITORY), capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
