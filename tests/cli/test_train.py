"""`groundserve train` through its real entry points."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, read_steps
from tests.support.reference import REPOSITORY, SET_1
from tests.unit.train.data.samples import question, write_video
from train.files import sole_writer

MODULE = ["-m", "groundserve.cli.main"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CONFIG = """
init = "{init}"
out = "run"
precision = "fp32"
parallelism = "{parallelism}"

[data]
records = "records.json"
media_root = "."
"""


def train(*args):
    return run_cli("train", *args)


def open_process(*args):
    """Start Python with ARGS, its streams in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def write_config(folder, *, parallelism="none", num_records=4, num_videos=2):
    """Questions about videos, of which all but the first are missing."""
    folder.mkdir(exist_ok=True)
    write_video(folder / "0.mp4", num_frames=40)
    records = [
        question(f"{i % num_videos}.mp4", f"question {i}?", frame_num=[i % 3])
        for i in range(num_records)
    ]
    (folder / "records.json").write_text(json.dumps(records))
    path = folder / "run.toml"
    text = CONFIG.format(init=SET_1 / "videoitg-tiny", parallelism=parallelism)
    path.write_text(text + "max_unreadable_share = 0.5\n" * (num_videos > 1))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A config whose run is done, and what the command said."""
    path = write_config(tmp_path_factory.mktemp("train"))
    return path, train("grounding", "--config", path)


def test_train_writes_a_checkpoint(finished):
    path, said = finished
    assert said.code == 0, said.stderr
    final = path.parent / "run" / "final"
    assert said.stdout.startswith(f"checkpoint {final}: 4 steps, loss ")
    assert said.stdout.endswith("2 unreadable records\n")
    assert "cannot read 1.mp4, record #1: cannot open the video" in said.stderr
    assert read_steps(said.stderr)[0][1] == "loading"
    Checkpoint.open(final).load_grounding()


def test_train_prints_json_and_resumes(finished):
    path, _ = finished
    (path.parent / "below").mkdir()
    # As from another working folder: other words for the same places.
    config = path.parent / "below" / ".." / path.name
    said = train("grounding", "--config", config, "--resume", "--json")
    assert said.code == 0, said.stderr
    value = json.loads(said.stdout.splitlines()[-1])
    assert os.path.realpath(value["checkpoint"]) == str(path.parent / "run" / "final")
    assert value["step"] == 4
    assert value["num_unreadable"] == 2
    assert value["learning_rates"].keys() == {"base", "out_proj"}


def test_a_second_run_in_one_folder_is_refused(finished):
    """It would remove what the first one is writing."""
    path, _ = finished
    with sole_writer(path.parent / "run"):
        refused = train("grounding", "--config", path, "--resume")
    assert_refused(refused, "another process writes to")


def test_train_refuses_a_run_in_the_way(finished):
    path, _ = finished
    assert_refused(train("grounding", "--config", path), "run is not empty; --resume goes on")


@pytest.mark.parametrize(
    ("stage", "config", "message"),
    [
        (
            ["check"],
            "run.toml",
            "vtgllm-instruct, got None; write it into the file, or name",
        ),
        (
            ["check", "grounding", "--samples", "0"],
            "run.toml",
            "num_sampled must be > 0 and finite",
        ),
    ],
)
def test_train_refuses_bad_arguments(tmp_path, stage, config, message):
    write_config(tmp_path)
    assert_refused(train(*stage, "--config", tmp_path / config), message)


def start_and_stop(folder, *command):
    """Start a command, wait for two steps, send it SIGTERM; returns it and what it said."""
    process = open_process(*command)
    log = folder / "run" / "metrics.jsonl"
    while not log.is_file() or log.read_text().count("\n") < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=300)
    (checkpoint,) = (folder / "run").glob("checkpoint-*")
    assert out == ""
    assert f"groundserve: stopped by SIGTERM; wrote {checkpoint}, go on with --resume" in errors
    return process, errors


def test_sigterm_ends_with_its_code_and_resume_goes_on(tmp_path):
    path = write_config(tmp_path, num_records=60, num_videos=1)
    whole = write_config(tmp_path / "whole", num_records=60, num_videos=1)
    process, errors = start_and_stop(tmp_path, *MODULE, "train", "grounding", "--config", path)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors

    assert train("grounding", "--config", path, "--resume").code == 0
    assert train("grounding", "--config", whole).code == 0
    for name in ("model.safetensors", "config.json"):
        found = (tmp_path / "run" / "final" / name).read_bytes()
        assert found == (tmp_path / "whole" / "run" / "final" / name).read_bytes(), name


def test_sigterm_to_torchrun_stops_its_workers_with_a_checkpoint(tmp_path):
    path = write_config(tmp_path, parallelism="ddp", num_records=200, num_videos=1)
    command = (*TORCHRUN, *MODULE, "train", "grounding", "--config", path)
    process, errors = start_and_stop(tmp_path, *command)
    assert errors.count("groundserve: stopped by SIGTERM") == 1
    assert process.returncode == 1
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert (checkpoint / "trainer_state").is_dir()
    assert not (tmp_path / "run" / "final").exists()


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A config whose data has every kind of fault."""
    folder = tmp_path_factory.mktemp("checked")
    path = write_config(folder, num_videos=1)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "damaged.mp4").write_bytes((folder / "0.mp4").read_bytes()[:1000])
    records = [question("0.mp4", f"question {i}?", frame_num=[0], id=f"q{i}") for i in range(30)]
    records += [
        question("missing.mp4", id="gone"),
        question("empty.mp4", id="empty"),
        question("damaged.mp4", id="damaged"),
        question("0.mp4", id="late", frame_num=[4]),  # T is 4
        question("0.mp4", id="clips", frame_num=[2000]),
        {"id": "clip_num", "video": "0.mp4", "question": "What?", "clip_num": [1]},
    ]
    (folder / "records.json").write_text(json.dumps(records))
    return path


def test_check_names_what_is_wrong(checked):
    said = train("check", "grounding", "--config", checked, "--samples", "100", "--json")
    assert said.code == 2, said.stderr
    report = json.loads(said.stdout)
    assert report["usable"] is False
    assert (report["num_items"], report["num_media"]) == (36, 4)
    found = {fault["kind"]: fault for fault in report["faults"]}
    counts = {kind: (fault["num_items"], fault["num_looked_at"]) for kind, fault in found.items()}
    assert counts == {
        "records that break the format": (1, 36),
        "files that are missing or empty": (2, 36),
        "frame_num beyond any video: 1024 (max_frames) or more": (1, 36),
        "samples that cannot be used": (2, 32),
    }
    examples = {kind: "; ".join(fault["examples"]) for kind, fault in found.items()}
    assert "record clip_num: frame_num is missing" in examples["records that break the format"]
    assert examples["files that are missing or empty"] == (
        "missing.mp4: No such file or directory; empty.mp4: it is empty (0 bytes)"
    )
    assert "record late: frame_num must be below 4" in examples["samples that cannot be used"]
    assert "record damaged: " in examples["samples that cannot be used"]
    assert report["lost_share"] == pytest.approx(6 / 36)
    assert report["max_lost_share"] == 0.05


def test_check_says_what_decoding_costs(checked):
    text = checked.read_text().replace("[data]", "[data]\nmax_unreadable_share = 0.5")
    path = checked.with_name("lenient.toml")
    path.write_text('stage = "grounding"\n' + text)
    # A GPU so fast that no machine keeps up.
    fast = ("--gpus", "8", "--gpu-tflops", "1e6", "--json")
    said = train("check", "--config", path, "--samples", "5", *fast)
    assert said.code == 0, said.stderr
    report = json.loads(said.stdout)
    cost, gpu = report["cost"], report["gpu"]
    assert cost["num_frames"] == 4
    assert cost["core_seconds"] > 0
    flops = (cost["tower_tflop"] + cost["decoder_tflop"]) * 1e12
    assert gpu["seconds"] == pytest.approx(flops / (1e18 * 0.4))
    assert gpu["cores_a_gpu"] == pytest.approx(cost["core_seconds"] / gpu["seconds"])
    assert gpu["epoch_core_hours"] == pytest.approx(36 * cost["core_seconds"] / 3600)
    (warning,) = [line for line in report["warnings"] if "GPUs" in line]
    assert "cores to keep up with 8 GPUs" in warning
    assert "Each file is read 9 times an epoch: set data.frame_cache" in warning
    again = train("check", "--config", path, "--samples", "5", "--json")
    drawn = [one for one in json.loads(again.stdout)["faults"] if "samples" in one["kind"]]
    assert drawn == [one for one in report["faults"] if "samples" in one["kind"]]


def test_check_prints_a_table(checked, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    command = ("check", "grounding", "--config", checked, "--samples", "5")
    said = train(*command, "--gpus", "1")
    assert said.code == 2
    lines = said.stdout.splitlines()
    assert any(line.startswith("ok ") and "36 items, 4 files" in line for line in lines)
    assert any(line.startswith("fail  usable") for line in lines)
    assert read_steps(said.stderr)[0][1] == "files: 1 of 4"
    assert "cores a GPU" in said.stdout
    on_cpu = train(*command).stdout
    assert re.search(r"^ok +training +on this CPU: there is no GPU\b", on_cpu, re.MULTILINE)
    assert "cores a GPU" not in on_cpu
    assert "e-0" not in on_cpu  # times in units that a person reads


def assert_refused(said, message):
    """After warnings, such as of records that are left out, the error is all that is said."""
    assert said.code == 2
    lines = said.stderr.splitlines(keepends=True)
    assert_one_error("".join(line for line in lines if not line.startswith("WARNING ")), message)
