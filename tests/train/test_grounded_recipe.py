"""The recipe of the small Grounded-VideoLLM, with a few steps of everything."""

import numpy as np
import pytest
import torch

from groundserve.families import open_checkpoint
from train.digits.answers.answerer import open_answerer
from train.families.grounded_videollm.digits import files
from train.families.grounded_videollm.digits.recipe import (
    NUM_PLACES,
    Recipe,
    run_recipe,
    seconds_of,
    some_places,
)

FEW = Recipe(
    seed=3,
    num_videos=3,
    batch_size=2,
    patches_steps=1,
    frames_steps=1,
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


def test_some_places_have_a_row_of_each_second_and_stand_for_all():
    every, (some, copies) = torch.arange(NUM_PLACES), some_places(np.random.default_rng(0))
    assert seconds_of(some)[seconds_of(some) >= 0].tolist() == list(range(48))
    assert (some.diff() > 0).all()
    assert copies.sum() == len(every)
    assert copies[seconds_of(some) >= 0].unique().item() == (seconds_of(every) == 7).sum()


def test_slowed_heads_see_32_positions_as_one(monkeypatch):
    monkeypatch.setattr(files, "_NEAR", 0.0)
    decoder = open_answerer().decoder.double()
    slowed = files.slowed(decoder).double()
    ids, places = torch.arange(100, 140)[None], torch.arange(40.0)[None]
    with torch.no_grad():
        wanted = decoder(input_ids=ids, position_ids=places).logits
        found = slowed(input_ids=ids, position_ids=places * 10**1.5).logits
    # Angles are rounded to float32, of up to 1233 radians: 2**-14 each, and 40 positions a layer.
    torch.testing.assert_close(found, wanted, rtol=0, atol=2**-14 * 40 * wanted.abs().max().item())
