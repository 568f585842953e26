"""Which family a run trains, and that the shared loop trains one that has nothing of VideoITG."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.support.reference import SET_1
from tests.unit.train.data.samples import question, write_video
from tests.unit.train.toy_family import DRAWN, FAMILY, FLOPS, STRIDE, Model
from train import families
from train.check import check
from train.config_file import read_config
from train.families import find_family
from train.families.videoitg import FAMILY as VIDEOITG
from train.logs import read_metrics
from train.loop import train
from train.validation import read_best

NUM_FRAMES = 30
CONFIG = """
init = "start"
out = "run"
max_steps = 4
[data]
records = "records.json"
media_root = "."
num_workers = 1
[validation]
records = "records.json"
media_root = "."
every_steps = 2
"""


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(families._MODULES, "toy", "tests.unit.train.toy_family")


@pytest.fixture
def config(toy, tmp_path):
    """A run of the toy family on two videos, in six frames of which one is relevant."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "config.json").write_text('{"model_type": "toy"}')
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", num_frames=NUM_FRAMES)
    records = [question(f"{name}.mp4", frame_num=[5]) for name in "ab"]
    (tmp_path / "records.json").write_text(json.dumps(records))
    (tmp_path / "run.toml").write_text(CONFIG)
    return read_config("grounding", tmp_path / "run.toml")


def test_init_says_which_family_is_trained(toy, qwen2, tmp_path):
    assert find_family(SET_1 / "videoitg-tiny") is VIDEOITG
    assert find_family(qwen2) is VIDEOITG
    (tmp_path / "config.json").write_text('{"model_type": "toy"}')
    assert find_family(tmp_path) is FAMILY


def test_a_config_file_has_the_stages_of_its_family(config):
    assert config.optimizer.learning_rate == 0.125
    assert config.max_steps == 4


def test_another_family_is_trained_by_the_same_loop(config):
    final = train(config)
    lines = read_metrics(config.out)
    steps = [line for line in lines if "loss" in line]
    assert [line["num_frames"] for line in steps] == [NUM_FRAMES // STRIDE] * 4
    # One word, and what was drawn for each frame.
    drawn = {(line["num_tokens"] - 1) / line["num_frames"] for line in steps}
    assert drawn <= set(DRAWN)
    assert {line["parts"]["toy"] for line in steps} == {line["loss"] for line in steps}
    torch.manual_seed(config.seed)
    before, after = Model().state_dict(), load_file(final / "model.safetensors")
    assert after.keys() == {f"toy.{name}" for name in before}
    assert not any(torch.equal(after[f"toy.{name}"], before[name]) for name in before)
    measured = [line["step"] for line in lines if "validation" in line]
    assert measured == [0, 2, 4]
    assert read_best(config.out)["step"] in (2, 4)
    assert (config.out / "best" / "model.safetensors").is_file()
    # Nothing is left to do, and what is there opens.
    assert train(config, resume=True) == final
    assert find_family(final) is FAMILY


def test_another_family_is_checked_by_its_own_arithmetic(config):
    report = check(replace(config, validation=None), num_sampled=2)
    assert report.is_usable
    assert report.cost.num_frames == NUM_FRAMES / STRIDE
    # One text; the mean over what is drawn of what is the same for each.
    assert (report.cost.tower_tflop, report.cost.decoder_tflop) == (
        FLOPS.tower / 1e12,
        FLOPS.decoder / 1e12,
    )
