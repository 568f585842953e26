"""`groundserve eval --baseline`: two models on the same questions, in this process."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
from safetensors.numpy import load_file, save_file

from groundserve.cli import eval_run
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, read_steps

CHECKPOINT = str(SHIPPED_CHECKPOINT)


@pytest.fixture
def run():
    """The command; gives its exit code and what it wrote."""
    return partial(run_cli, "eval")


@pytest.fixture
def new(tmp_path):
    """A checkpoint by another name than the shipped one."""
    (tmp_path / "new").symlink_to(SHIPPED_CHECKPOINT)
    return str(tmp_path / "new")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--baseline", CHECKPOINT], "--baseline needs --checkpoint, --engines or --server"),
        (["--checkpoint", "{new}", "--baseline", "no such"], "no such: no such directory"),
        (
            ["--predictions", "a", "--ground-truth", "b", "--baseline", CHECKPOINT],
            "--baseline does not go with --predictions",
        ),
    ],
)
def test_a_baseline_that_cannot_be_is_told_before_any_work(args, message, run, monkeypatch, new):
    monkeypatch.setattr(eval_run, "open_scorer", None)
    code, out, err = run(*[arg.format(new=new) for arg in args])
    assert (code, out) == (2, "")
    assert_one_error(err, message)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """The shipped checkpoint with its head turned round: the best frame is the worst."""
    folder = tmp_path_factory.mktemp("spoilt") / "checkpoint"
    shutil.copytree(SHIPPED_CHECKPOINT, folder, ignore=shutil.ignore_patterns("training"))
    weights = load_file(folder / "model.safetensors")
    weights["out_proj.weight"] = -weights["out_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    return folder


def test_real_checkpoints_are_told_apart_or_not(run, monkeypatch, spoilt, tmp_path):
    monkeypatch.setattr("train.digits.downstream.downstream_report", lambda *_, **__: None)
    keep = tmp_path / "digits"
    digits = ("--num-videos", 4, "--num-frames", 16, "--keep", keep, "--top-k", 4)
    code, out, err = run(*digits, "--checkpoint", spoilt, "--baseline", CHECKPOINT, "--json")
    assert code == 0, err
    figures = json.loads(out.splitlines()[-1])["comparison"]["overall"]
    assert figures["frame_ap"]["verdict"] == "worse"
    assert figures["recall_at_k"]["difference"]["value"] < 0

    drawn = ("--records", keep / "records.json", "--media-root", keep, "--top-k", 2)
    code, out, err = run(*drawn, "--checkpoint", CHECKPOINT, "--baseline", CHECKPOINT)
    assert code == 0, err
    steps = [step for _, step in read_steps(err)]
    assert "loading the baseline" in steps
    assert "scoring video 1 of 4 with the baseline" in steps
    last = out.splitlines()[-1]
    assert last.startswith(f"against {CHECKPOINT}, ")
    assert ": better: none; worse: none; not told apart: frame AP" in last
