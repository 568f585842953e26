"""The GPU check: what its parts compute, and the report around them."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.engines import check_engines, check_packing
from benchmarks.gpu.fp8 import ERROR_BOUND, Fp8Linear, Fp8SwiGLU, fp8_layers
from benchmarks.gpu.models import Bench, random_request, relative_error
from benchmarks.gpu.report import NotRun, Part, Report
from benchmarks.gpu.size import FULL, SMALL
from benchmarks.gpu.timing import time_in_turn
from benchmarks.gpu.variants import measure_attention
from benchmarks.gpu_check import (
    engine_rows,
    judge,
    main,
    parse,
    parts,
    print_plan,
    readme_rows,
)
from engine_build import build
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from python_backend.encode import TorchEncoder
from tests.benchmarks.gpu_parts import part
from tests.reference import REPOSITORY


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_device_has_a_number_that_torch_can_be_set_to(monkeypatch, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse(["--out", "report.json", "--device", device]).device == expected


def test_a_fused_swiglu_is_the_mlp_with_one_8_bit_product_less():
    bench = Bench(size=SMALL, device="cpu")
    assert bench.stages
    mlp = bench.grounding.decoder.layers[0].mlp
    generator = torch.Generator().manual_seed(0)
    # Large enough for SiLU to differ from half its argument.
    inputs = 20 * torch.randn(50, mlp.gate_proj.in_features, generator=generator)
    with torch.inference_mode():
        expected = mlp(inputs)
        with fp8_layers(bench, fuse_swiglu=True):
            fused = bench.grounding.decoder.layers[0].mlp
            assert isinstance(fused, Fp8SwiGLU)
            assert fused.gate_up.weight.shape == (2 * mlp.up_proj.out_features, inputs.shape[1])
            kinds = {type(one) for one in fused.modules()}
            assert kinds == {Fp8SwiGLU, Fp8Linear}
            error = relative_error(fused(inputs), expected)
            # Gate and up the other way round: the same sizes, another function.
            half = mlp.up_proj.out_features
            fused.gate_up.weight = (
                fused.gate_up.weight.view(torch.uint8).roll(half, 0).view(torch.float8_e4m3fn)
            )
            wrong = relative_error(fused(inputs), expected)
        assert bench.grounding.decoder.layers[0].mlp is mlp
    assert error < ERROR_BOUND
    assert wrong > 4 * ERROR_BOUND


def test_8_bit_layers_are_gone_afterwards():
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
    measured["kernel orders"] = {"cudnn": request_of(900.0, 400.0)}
    for name, row in measured.items():
        report.run(part(name), lambda part, row=row: {"status": "ok", "results": row})

    targets = judge(report, FULL)

    assert [target["met"] for target in targets] == met
    assert targets[0]["best"] == ("cudnn first", 900.0)


def test_judge_knows_nothing_where_parts_failed(tmp_path):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=60)

    assert [target["met"] for target in judge(report, FULL)] == [None, None, None]


def succeed(part: Part) -> dict:
    return {"status": "ok", "results": {"value": float("nan")}}


def test_report_leaves_out_what_does_not_fit_into_the_time(tmp_path):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=10)

    assert report.run(part("long", seconds=11), succeed)["status"] == "not run"
    assert report.run(part("short", seconds=11), succeed, scale=0.5)["status"] == "ok"

    assert [entry["status"] for entry in report.parts] == ["not run", "ok"]
    assert "it may take 11" in report.parts[0]["why"]


def test_report_is_written_after_each_part(tmp_path):
    path = tmp_path / "new" / "r.json"
    report = Report(path, header={"question": "?"}, budget_seconds=60)
    for count in (1, 2):
        report.run(part("one"), succeed)
        written = json.loads(path.read_text("utf-8"))
        assert [entry["results"] for entry in written["parts"]] == [{"value": None}] * count
    assert [file.name for file in path.parent.iterdir()] == ["r.json"]


def test_a_disk_without_room_costs_the_file_and_no_part(tmp_path, capsys, monkeypatch):
    path = tmp_path / "r.json"
    report = Report(path, header={}, budget_seconds=60)
    report.run(part("first"), succeed)
    before = path.read_text("utf-8")

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_room)
        assert report.run(part("second"), succeed)["status"] == "ok"
    assert "r.json is not written: No space left on device" in capsys.readouterr().out
    assert path.read_text("utf-8") == before
    report.run(part("third"), succeed)
    assert len(json.loads(path.read_text("utf-8"))["parts"]) == 3


def test_an_out_that_cannot_be_written_is_found_before_any_part(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("benchmarks.gpu_check.parts", lambda size, args: [part("absent")])
    monkeypatch.setattr("benchmarks.gpu_check.Worker", None)
    with pytest.raises(OSError, match="file"):
        main(["--small", "--device", "cpu", "--out", str(tmp_path / "file" / "r.json")])


def planned(**options) -> list[Part]:
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return parts(FULL, parse(["--out", "r.json", "--device", "cpu", *arguments]))


def test_the_plan_says_what_each_part_may_take_and_what_may_not_fit(capsys):
    print_plan(planned(), minutes=10, scale=1.0)
    lines = capsys.readouterr().out.splitlines()

    assert "at most 10 minutes" in lines[0]
    rows = {line[:24].strip(): line[24:].split() for line in lines[1:-1] if line}
    assert list(rows)[:-1] == [one.name for one in planned()]
    assert [float(rows[one.name][0]) for one in planned()] == [one.seconds for one in planned()]
    assert float(rows["together"][0]) == sum(one.seconds for one in planned())
    left_out = [name for name, words in rows.items() if words[2:3] == ["left"]]
    assert "main request" not in left_out
    assert planned()[-1].name in left_out


def test_every_target_can_be_imported():
    import importlib

    for one in planned():
        module, _, function = one.target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), one.target


def test_rows_that_parts_fill_are_in_the_readme():
    lines = (Path(REPOSITORY) / "README.md").read_text("utf-8").splitlines()
    table = lines[lines.index("## What is verified where") :]
    rows = {row for one in planned() for row in one.fills}
    assert len(rows) == 5
    for row in rows:
        assert sum(line.startswith(f"| {row}") for line in table) == 1, row


class ReachedError(Exception):
    """The reference's decoder is to be made."""


def test_the_reference_of_engines_runs_on_their_device_layer_by_layer(tmp_path, monkeypatch):
    """On a CPU the released model's would take longer than the part may."""
    build(SHIPPED_CHECKPOINT, tmp_path / "engines", profile="torch", device="cuda")

    def make_decoder(model, *, device="cpu", in_turn=False):
        raise ReachedError(device, in_turn)

    monkeypatch.setattr(
        "python_backend.encode.TorchEncoder", lambda model, device: TorchEncoder(model)
    )
    monkeypatch.setattr("python_backend.ground.TorchGrounder", make_decoder)
    with pytest.raises(ReachedError) as reached:
        check_engines(Bench(size=SMALL, device="cpu"), tmp_path / "engines", None)
    assert reached.value.args == ("cuda", True)


def test_engines_of_pytorch_are_as_the_reference(engines_of):
    engine_dir = engines_of(SHIPPED_CHECKPOINT, "torch")
    result = check_engines(Bench(size=SMALL, device="cpu"), engine_dir, None)
    # The same sums; the engine's batches may add them in another order.
    assert max(result["logit_relative_error"].values()) < 1e-5
    assert list(result["logit_relative_error"]) == ["1", "7", "128", "1000"]
    assert result["mask_probe"] > 0


@pytest.mark.parametrize(
    ("profile", "rows"),
    [
        ("gpu", ("TensorRT: SigLIP so400m", "TensorRT-LLM: converted weights")),
        ("gpu-trt", ("TensorRT: SigLIP so400m",)),
        ("torch", ("attention is full in every engine",)),
        (None, ("TensorRT: SigLIP so400m", "TensorRT-LLM: converted weights")),
    ],
)
def test_engines_fill_the_rows_of_their_profile(tmp_path, profile, rows):
    if profile is not None:
        (tmp_path / "manifest.json").write_text(json.dumps({"profile": profile}))
    assert engine_rows(tmp_path) == rows


def test_a_row_is_filled_when_all_its_parts_ran_at_full_size_on_a_gpu(tmp_path):
    report = Report(tmp_path / "r.json", header={}, budget_seconds=60)
    both = [part("one", fills=("a", "b")), part("two", fills=("b",)), part("three")]
    report.run(both[0], succeed)
    report.run(both[1], lambda part: {"status": "failed", "error": "ValueError: no"})

    rows = readme_rows(both, report, counts=True)

    assert rows == [
        {"row": "a", "filled": True, "parts": {"one": "ok"}},
        {"row": "b", "filled": False, "parts": {"one": "ok", "two": "failed"}},
    ]
    assert not any(row["filled"] for row in readme_rows(both, report, counts=False))


def test_time_in_turn_alternates_after_warming_up():
    seen: list[str] = []

    times = time_in_turn(
        lambda: seen.append("a"), lambda: seen.append("b"), device="cpu", repeats=4
    )

    assert [len(one) for one in times] == [4, 4]
    assert seen == ["a", "b"] * (2 + 4)


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
