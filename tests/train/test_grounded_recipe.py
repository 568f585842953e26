"""The recipe of the small Grounded-VideoLLM, with a few steps of everything."""

import numpy as np
import pytest
import torch

from groundserve.families import open_checkpoint
from train.families.grounded_videollm.digits.recipe import (
    Recipe,
    all_rows,
    run_recipe,
    some_rows,
)
from train.families.grounded_videollm.digits.vision import NUM_FRAMES, NUM_SEGMENTS

FEW = Recipe(
    seed=3,
    num_videos=3,
    batch_size=2,
    vision_steps=2,
    index_steps=1,
    grounded_steps=2,
    sft_steps=1,
    sft_batch_size=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_recipe(FEW, tmp_path_factory.mktemp("recipe"))


def test_what_it_writes_is_the_references_layout_and_opens_in_serving(run):
    family, opened = open_checkpoint(run)
    assert family.name == "grounded_videollm"
    assert opened.describe()["note"]
    (adapter,) = opened.adapters
    assert len(adapter.pairs) == 7 * opened.config.num_hidden_layers
    assert all(b.any() for _, b in adapter.pairs.values())
    assert opened.load_decoder().lm_head.weight.isfinite().all()


def test_some_rows_have_one_of_four_frames_and_stand_for_all():
    every, some = all_rows(), some_rows(np.random.default_rng(0))
    frames = some["frames"][some["frames"] >= 0].unique()
    assert (frames // 4).tolist() == list(range(NUM_SEGMENTS * NUM_FRAMES // 4))
    assert torch.equal(every["frames"][some["rows"]], some["frames"])
    assert some["copies"].sum() == len(every["rows"])
    assert torch.equal(every["rows"][every["frames"] < 0], some["rows"][some["frames"] < 0])
