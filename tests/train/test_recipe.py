"""The whole recipe, at a size where it learns nothing."""

import json

import pytest

from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.unit.train.families.videoitg.digits.tiny import TINY
from train.families.videoitg.digits.recipe import run_recipe


@pytest.mark.timeout(300)
def test_all_stages_run_and_leave_a_checkpoint_that_opens(tmp_path):
    package = run_recipe(TINY, tmp_path)
    checkpoint = Checkpoint.open(package)
    assert checkpoint.tower_directory == package / "siglip-digits-patch12-72"
    checkpoint.load_grounding()
    checkpoint.load_vision()
    lines = (package / "training" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    assert {line["run"] for line in log} >= {"grounding-1", "grounding-2"}
    assert any("frame_ap" in line.get("validation", {}) for line in log)
    config = json.loads((package / "training" / "config.json").read_text())
    assert config["recipe"]["seed"] == 3
    assert str(tmp_path) not in json.dumps(config)
    timing = (tmp_path / "timing.jsonl").read_text()
    assert run_recipe(TINY, tmp_path) == package
    assert (tmp_path / "timing.jsonl").read_text() == timing  # nothing was done again
