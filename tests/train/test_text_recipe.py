"""The recipe of the small checkpoint that answers in text, with a few steps of everything."""

import json
from dataclasses import asdict

import pytest

from groundserve.families import open_checkpoint
from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER
from train.families.vtimellm.digits.recipe import Recipe, run_recipe

FEW = Recipe(
    seed=3,
    num_videos=3,
    batch_size=2,
    vision_steps=2,
    base_steps=2,
    projector_steps=2,
    boundary_steps=2,
    dialogue_steps=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_recipe(FEW, tmp_path_factory.mktemp("recipe"))


def test_what_it_writes_is_the_references_layout_and_opens_in_serving(run):
    family, opened = open_checkpoint(run)
    assert family.name == "vtimellm"
    assert len(opened.adapters) == 2
    assert opened.describe()["note"]
    # All that stages 2 and 3 may train is in their adapters, and did move.
    for adapter in opened.adapters:
        assert len(adapter.pairs) == 7 * opened.config.num_hidden_layers
        assert all(b.any() for _, b in adapter.pairs.values())
    assert opened.load_decoder().lm_head.weight.isfinite().all()


def test_a_part_that_is_done_is_not_done_again(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    run_recipe(FEW, run.parent)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}


def test_the_shipped_one_was_made_by_these_settings():
    told = json.loads((SHIPPED_ANSWERER / "training" / "config.json").read_text())
    assert told == asdict(Recipe(seed=1))
