"""The GPU check at tiny size on a CPU: every path that needs no CUDA."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu_check import main

NEEDS_GPU = {"compilation"}
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
