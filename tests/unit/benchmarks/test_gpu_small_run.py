"""The GPU check at tiny size on a CPU: every path that needs no CUDA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu.report import Report
from benchmarks.gpu_check import (
    VISION_VARIANTS,
    judged_rows,
    main,
)

NEEDS_GPU = {"attention kernels", "CUDA graphs", "compilation", "reference, tuned"} | {
    f"vision plan, {name}" for name in VISION_VARIANTS
}


NEEDS_INPUT = {"engines", "decode"}


@pytest.fixture(scope="module")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("gpu_check") / "new" / "report.json"
    main(["--small", "--device", "cpu", "--out", str(out)])
    return json.loads(out.read_text("utf-8"))


def results(report: dict, name: str) -> dict:
    (part,) = (part for part in report["parts"] if part["part"] == name)
    return part["results"]


def test_small_run_measures_everything_that_needs_no_gpu(small_report):
    by_status: dict[str, set[str]] = {}
    for part in small_report["parts"]:
        by_status.setdefault(part["status"], set()).add(part["part"])

    assert set(by_status) == {"ok", "not run"}, small_report["parts"]
    assert by_status["not run"] == NEEDS_GPU | NEEDS_INPUT
    assert all(part["why"] for part in small_report["parts"] if part["status"] == "not run")


def test_reference_of_the_small_run_computes_the_same_function(small_report):
    # Own pooling, own projection of all layers, own attention; float32 on both sides.
    assert results(small_report, "reference")["relative_difference_of_scores"] < 1e-6


def test_parity_of_the_small_run_finds_16_bits_close_but_not_equal(small_report):
    digits = results(small_report, "digits parity")
    assert digits["torch.float32"]["logit_relative_error"] == 0
    for dtype, limit in (("torch.bfloat16", 5e-2), ("torch.float16", 1.5e-2)):
        assert 0 < digits[dtype]["logit_relative_error"] < limit
        assert digits[dtype]["top_8_overlap_mean"] > 0.9
        assert digits[dtype]["mask_probe"] > 0
        random = results(small_report, "full-size parity")[dtype]
        assert 0 < random["feature_relative_error"] < 2e-2
        assert 0 < random["logit_relative_error"] < 5e-2


@pytest.mark.parametrize("name", ["fp8", "fp8, fused SwiGLU"])
def test_8_bit_layers_of_the_small_run_are_within_their_bound(small_report, name):
    row = results(small_report, name)
    assert row["error_bound"] == 2 * 2**-4  # four roundings of E4M3 in a branch
    assert row["within_bound"]
    for error in ("feature_relative_error", "logit_relative_error"):
        assert 1e-3 < row[error] <= row["error_bound"]


def test_variants_of_the_small_run_stand_beside_their_bounds(small_report):
    report = Report(Path("r.json"), header={}, budget_seconds=0)
    report.parts = small_report["parts"]
    rows = dict(judged_rows(report))
    assert set(rows) == {"fp8", "fp8, fused SwiGLU"} | {
        f"vision variants, {name}" for name in VISION_VARIANTS
    }
    assert all(row["within_bound"] for row in rows.values()), rows
