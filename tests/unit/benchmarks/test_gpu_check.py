"""The GPU check at tiny size on a CPU: every path that needs no CUDA, and the report around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.engines import check_packing
from benchmarks.gpu.fp8 import Fp8Linear, fp8_layers
from benchmarks.gpu.models import Bench, random_request
from benchmarks.gpu.report import NotRun, Part, Report
from benchmarks.gpu.size import FULL, SMALL
from benchmarks.gpu.timing import time_in_turn
from benchmarks.gpu.variants import measure_attention
from benchmarks.gpu_check import judge, main, parse
from tests.reference import REPOSITORY

NEEDS_GPU = {"attention kernels", "CUDA graphs", "compilation", "reference, tuned"}
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


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_device_has_a_number_that_torch_can_be_set_to(monkeypatch, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert parse(["--out", "report.json", "--device", device]).device == expected


def test_small_run_says_what_it_ran_on(small_report):
    assert small_report["command"].startswith("python -m benchmarks.gpu_check")
    assert small_report["machine"]["packages"]["torch"]
    assert small_report["size"] == SMALL.name


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


def test_8_bit_layers_of_the_small_run_are_near_and_gone_afterwards(small_report):
    row = results(small_report, "fp8")
    assert 1e-3 < row["feature_relative_error"] < 0.2
    assert 1e-3 < row["logit_relative_error"] < 0.5
    bench = Bench(size=SMALL, device="cpu")
    request = random_request(SMALL, 4, device="cpu")
    before = bench.encode(request)
    with fp8_layers(bench):
        kinds = {type(module) for module in bench.grounding.decoder.layers[0].mlp.children()}
        assert Fp8Linear in kinds
        assert torch.nn.Linear not in kinds
        assert not np.array_equal(bench.encode(request), before)
    np.testing.assert_array_equal(bench.encode(request), before)


def test_attention_variants_are_timed_or_say_why_not(monkeypatch):
    # A CPU has the flash kernel alone, and no flash-attn package.
    monkeypatch.setattr("benchmarks.gpu.variants.is_gpu", lambda device: True)
    rows = measure_attention(Bench(size=SMALL, device="cpu"))

    assert not isinstance(rows, NotRun)
    for kernels in rows.values():
        for name, row in kernels.items():
            assert set(row) == ({"median_ms", "tflops"} if "flash," in name else {"not run"}), name


class PackingFake:
    """Scores a question by the sum of its ids, and of its neighbours' where it leaks."""

    max_num_tokens = 1000

    def __init__(self, *, leak: float) -> None:
        self.leak = leak

    def ground(self, features, text_ids):
        return np.full(len(features), text_ids.sum(), np.float32)

    def ground_packed(self, features, text_ids):
        total = sum(int(ids.sum()) for ids in text_ids)
        rows = [self.ground(features, ids) + np.float32(self.leak * total) for ids in text_ids]
        return np.stack(rows)


@pytest.mark.parametrize("leak", [0.0, 1e-3], ids=["isolated", "leaking"])
def test_packing_check_sees_a_leak_between_sequences(leak):
    text_ids = [np.array([3]), np.array([5, 6])]

    checked = check_packing(PackingFake(leak=leak), np.zeros((4, 1, 2)), text_ids, vocab_size=100)

    assert checked["text_lengths"] == [1, 2]
    assert checked["changed_one_moves"]
    assert checked["others_bit_identical_when_last_changes"] == (leak == 0)
    assert (max(checked["relative_error_to_alone"]) == 0) == (leak == 0)


def test_targets_are_not_judged_at_small_size(small_report):
    assert [target["met"] for target in small_report["targets"]] == [None, None, None]
    assert all(target["measured"] > 0 for target in small_report["targets"])


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
    for name, row in measured.items():
        report.run(Part(name=name, seconds=0, call=lambda row=row: row))
    tuned = {"cudnn": request_of(900.0, 400.0)}
    report.run(Part(name="kernel orders", seconds=0, call=lambda: tuned))

    targets = judge(report, FULL)

    assert [target["met"] for target in targets] == met
    assert targets[0]["best"] == ("cudnn first", 900.0)


def test_judge_knows_nothing_where_parts_failed(tmp_path):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=60)

    assert [target["met"] for target in judge(report, FULL)] == [None, None, None]


def failing() -> dict:
    raise ValueError("out of luck")


def test_report_records_a_failing_part_and_goes_on(tmp_path):
    path = tmp_path / "r.json"
    report = Report(path, header={"question": "?"}, budget_seconds=60)

    assert report.run(Part(name="bad", seconds=0, call=failing)) is None
    after_first = json.loads(path.read_text("utf-8"))
    report.run(Part(name="good", seconds=0, call=lambda: {"value": float("nan")}))

    assert [part["part"] for part in after_first["parts"]] == ["bad"]
    bad, good = json.loads(path.read_text("utf-8"))["parts"]
    assert bad["status"] == "failed"
    assert bad["error"] == "ValueError: out of luck"
    assert "failing" in bad["traceback"]
    assert (good["status"], good["results"]) == ("ok", {"value": None})


def test_report_leaves_out_what_does_not_fit_into_the_time(tmp_path):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=10)

    assert report.run(Part(name="long", seconds=11, call=failing)) is None
    assert report.run(Part(name="none", seconds=0, call=lambda: NotRun("no files"))) is None
    assert report.run(Part(name="short", seconds=11, call=lambda: {"value": 1}), scale=0.5)

    assert [part["status"] for part in report.parts] == ["not run", "not run", "ok"]
    assert "it may take 11" in report.parts[0]["why"]
    assert report.parts[1]["why"] == "no files"


def test_time_in_turn_alternates_after_warming_up():
    seen: list[str] = []

    times = time_in_turn(
        lambda: seen.append("a"), lambda: seen.append("b"), device="cpu", repeats=4
    )

    assert [len(one) for one in times] == [4, 4]
    assert seen == ["a", "b"] * (2 + 4)


def test_import_needs_neither_media_nor_server_packages():
    program = (
        "import sys, benchmarks.gpu_check;"
        "print(sorted({'av', 'tritonclient', 'typer', 'nvidia.dali', 'tensorrt'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(REPOSITORY), capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
