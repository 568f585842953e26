"""What the commands answer, as a whole."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from groundserve.runtime.gpu import current_gpu_arch
from groundserve.scoring.gate import TOLERANCES
from tests.cli.command import run_cli
from tests.support.reference import SET_1

CHECKPOINT = str(SET_1 / "videoitg-tiny")


def score(*args):
    return run_cli("score", *args)


@pytest.fixture(scope="module")
def answer(engine_dirs, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    finished = score(
        clips["bikes"],
        "--query",
        "a man",
        "--query",
        "a tree costs $5 or $6",
        "--engines",
        engine_dirs["cpu"],
        "--top-k",
        3,
        "--json",
        "--jsonl",
        folder / "records.jsonl",
        "--doc-id",
        40,
        "--contact-sheet",
        folder / "sheet.png",
        "--plot",
        folder / "plot.png",
    )
    assert finished.code == 0, finished.stderr
    return finished, folder


def test_score_prints_the_documented_json_on_the_last_line(answer):
    finished, _ = answer
    value = json.loads(finished.stdout.splitlines()[-1])
    assert value["num_source_frames"] == 250
    assert value["frame_indices"] == list(range(0, 250, 25))
    assert [len(query["selected_frames"]) for query in value["queries"]] == [3, 3]
    assert value["engine"]["profile"] == "cpu"
    assert {"probe", "cut", "decode", "encode", "ground", "select"} <= set(value["timing_ms"])


def test_score_appends_records_that_downstream_readers_take(answer):
    finished, folder = answer
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    value = json.loads(finished.stdout.splitlines()[-1])
    assert [line["doc_id"] for line in lines] == [40, 41]
    for line, query in zip(lines, value["queries"], strict=True):
        assert sorted(line["index"][:3]) == query["selected_frames"]
        assert sorted(line["index"]) == value["frame_indices"]
        assert line["logits"] == sorted(line["logits"], reverse=True)


@pytest.mark.parametrize("name", ["sheet.png", "plot.png"])
def test_score_draws_pictures(answer, name):
    _, folder = answer
    image = Image.open(folder / name).convert("RGB")
    assert min(image.size) > 200
    assert len(image.resize((64, 64)).getcolors(maxcolors=64 * 64)) > 50


def test_checkpoint_and_engines_agree(answer, clips):
    finished, _ = answer
    direct = score(clips["bikes"], "--query", "a man", "--checkpoint", CHECKPOINT, "--json")
    expected = json.loads(finished.stdout.splitlines()[-1])["queries"][0]["frame_logits"]
    got = json.loads(direct.stdout.splitlines()[-1])
    # The gate's own bar: the same model, in other kernels.
    bar = TOLERANCES["fp32"].logit_error * max(map(abs, expected))
    assert got["queries"][0]["frame_logits"] == pytest.approx(expected, rel=0, abs=bar)
    assert got["engine"]["profile"] == "torch"


def test_without_a_source_the_shipped_checkpoint_scores(clips, tmp_path):
    finished = run_cli(
        *("score", clips["carphone_pristine"], "--query", "a car", "--json"),
        env={"XDG_CACHE_HOME": str(tmp_path)},
    )
    assert finished.code == 0, finished.stderr
    note = "trained on moving handwritten digits"
    assert note in finished.stderr
    assert note in json.loads(finished.stdout)["engine"]["note"]
    assert (tmp_path / "groundserve").is_dir()


@pytest.mark.parametrize(
    "command", ["score", "ask", "build", "serve", "doctor", "compare", "export"]
)
def test_help_has_an_example(command):
    finished = run_cli(command, "--help")
    assert finished.code == 0
    assert f"groundserve {command}" in finished.stdout.split("Example:")[1]


def test_doctor_answers_for_a_checkpoint():
    finished = run_cli("doctor", "--checkpoint", CHECKPOINT, "--activations", "--json")
    assert finished.code == 0, finished.stderr
    findings = {row["subject"]: row for row in json.loads(finished.stdout)["findings"]}
    assert findings["vision_token_num"]["detail"].startswith("256: ")
    assert findings["projector"]["detail"] == "seq_mlp"
    assert "agree in all" in findings["vision weights"]["detail"]
    assert findings["activations"]["status"] == "ok"
    assert findings["tritonserver"]["status"] == "ok"


def test_doctor_answers_for_engines(engine_dirs):
    finished = run_cli("doctor", "--engines", engine_dirs["cpu"], "--json")
    assert finished.code == 0, finished.stderr
    findings = {row["subject"]: row for row in json.loads(finished.stdout)["findings"]}
    assert findings["GPU memory"]["detail"] == "none: profile cpu on the CPU"
    assert findings["engines"]["detail"] == "profile cpu, fp32 on cpu"
    assert "precision int8" in findings["int8"]["detail"]


def test_doctor_warns_of_the_padding_token_that_training_leaves():
    checkpoint = SET_1.parent / "videoitg_ref2" / "videoitg-pad-bang"
    finished = run_cli("doctor", "--checkpoint", checkpoint, "--json")
    findings = {row["subject"]: row for row in json.loads(finished.stdout)["findings"]}
    assert findings["padding token"]["status"] == "warn"


def test_doctor_and_compare_read_records(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"doc_id": 0, "index": [25, 0, 50]}\n')
    second.write_text('{"doc_id": 0, "index": [25, 50, 0]}\n')
    compared = run_cli("compare", first, second, "--top-k", 2, "--json")
    assert json.loads(compared.stdout)["overlap_at_k"] == 0.5
    assert "overlap@2" in run_cli("compare", first, second, "--top-k", 2).stdout
    examined = run_cli("doctor", "--results", first)
    assert "rule B (eval)" in examined.stdout


def test_build_that_kept_a_directory_compares_it_all_the_same(tmp_path):
    build = ("build", "--checkpoint", CHECKPOINT, "--out", tmp_path / "e", "--profile", "torch")
    unchecked = run_cli(*build, "--unchecked")
    assert "gate: not run (--unchecked)" in unchecked.stdout
    assert "gate: features differ by 0" in run_cli(*build).stdout
    assert json.loads((tmp_path / "e" / "gate.json").read_text())["mask_probe"] > 0


@pytest.mark.skipif(current_gpu_arch() is not None, reason="about machines without a GPU")
def test_engines_for_a_gpu_are_not_served_without_one(tmp_path):
    out = tmp_path / "engines"
    built = run_cli(
        *("build", "--checkpoint", CHECKPOINT, "--out", out, "--unchecked", "--json"),
        *("--profile", "torch", "--device", "cuda"),
    )
    assert json.loads(built.stdout)["engine"]["precision"] == "bf16"
    ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", 0)]
    served = run_cli("serve", "--engines", out, *ports)
    assert served.code == 1
    assert "warning: these engines were never compared with PyTorch" in served.stderr
    assert "runs on an NVIDIA GPU, this machine has no driver" in served.stderr
