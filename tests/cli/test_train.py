"""`groundserve train` through its real entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from groundserve.modeling.checkpoint import Checkpoint
from tests.reference import REPOSITORY, SET_1
from tests.unit.train.data.samples import question, write_video

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


def start(*args):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def train(*args):
    return start(*MODULE, "train", *args)


def write_config(folder, *, parallelism="none"):
    """Four questions about two videos, one of which is missing."""
    write_video(folder / "0.mp4", num_frames=40)
    records = [question(f"{i % 2}.mp4", f"question {i}?", frame_num=[i % 3]) for i in range(4)]
    (folder / "records.json").write_text(json.dumps(records))
    path = folder / "run.toml"
    path.write_text(CONFIG.format(init=SET_1 / "videoitg-tiny", parallelism=parallelism))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A config whose run is done, and what the command said."""
    path = write_config(tmp_path_factory.mktemp("train"))
    return path, train("grounding", "--config", path)


def test_train_writes_a_checkpoint(finished):
    path, said = finished
    assert said.returncode == 0, said.stderr
    final = path.parent / "run" / "final"
    assert said.stdout.startswith(f"checkpoint {final}: 4 steps, loss ")
    assert said.stdout.endswith("2 unreadable records\n")
    assert "cannot read 1.mp4, record #1: cannot open the video" in said.stderr
    Checkpoint.open(final).load_grounding()


def test_train_prints_json_and_resumes(finished):
    path, _ = finished
    said = train("grounding", "--config", path, "--resume", "--json")
    assert said.returncode == 0, said.stderr
    value = json.loads(said.stdout.splitlines()[-1])
    assert value["checkpoint"] == str(path.parent / "run" / "final")
    assert value["step"] == 4
    assert value["num_unreadable"] == 2
    assert value["learning_rates"].keys() == {"base", "out_proj"}


def test_train_in_two_processes_speaks_once(tmp_path):
    path = write_config(tmp_path, parallelism="ddp")
    said = start(*TORCHRUN, *MODULE, "train", "grounding", "--config", path)
    # Not the exit code: gloo sometimes aborts when an interpreter exits.
    assert said.stdout.count("checkpoint ") == 1, said.stderr
    assert "2 steps" in said.stdout
    assert said.stderr.count("cannot read 1.mp4, record #1") == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_train_refuses_a_run_in_the_way(finished):
    path, _ = finished
    assert_refused(train("grounding", "--config", path), "run is not empty; set resume, or")


@pytest.mark.parametrize(
    ("stage", "config", "message"),
    [
        ("grunding", "run.toml", "STAGE must be one of projector, images, video, grounding, got"),
        ("grounding", "none.toml", "cannot read"),
    ],
)
def test_train_refuses_bad_arguments(tmp_path, stage, config, message):
    assert_refused(train(stage, "--config", tmp_path / config), message)


def test_train_in_one_process_refuses_ddp(tmp_path):
    path = write_config(tmp_path, parallelism="ddp")
    assert_refused(train("grounding", "--config", path), "needs torchrun, which sets WORLD_SIZE")


def test_help_has_an_example():
    said = train("--help")
    assert said.returncode == 0
    assert "groundserve train grounding --config run.toml" in said.stdout


def assert_refused(said, message):
    assert said.returncode == 2
    assert message in said.stderr
    assert said.stderr.startswith("groundserve: error: ")
    assert said.stderr.count("\n") == 1
