"""The recipe of the small VTG-LLM, with a few steps of everything."""

import pytest
import torch

from groundserve.errors import InvalidRequestError
from groundserve.families import open_checkpoint
from train.digits.answers.answerer import open_answerer
from train.digits.answers.turns import draw_world
from train.digits.render import render_second
from train.families.vtgllm.digits.dialogues import SECONDS
from train.families.vtgllm.digits.recipe import (
    Recipe,
    first_front,
    run_recipe,
    spell,
    time_codes,
)
from train.families.vtgllm.digits.vision import resized, train_seeing

FEW = Recipe(
    seed=3,
    num_videos=3,
    batch_size=2,
    vision_steps=2,
    index_steps=2,
    decoder_steps=2,
    instruct_steps=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_recipe(FEW, tmp_path_factory.mktemp("recipe"))


def test_what_it_writes_is_the_references_layout_and_opens_in_serving(run):
    family, opened = open_checkpoint(run)
    assert family.name == "vtgllm"
    assert opened.describe()["note"]
    (adapter,) = opened.adapters
    assert len(adapter.pairs) == 4 * opened.config.num_hidden_layers
    assert all(b.any() for _, b in adapter.pairs.values())
    assert opened.load_decoder().lm_head.weight.isfinite().all()


def test_a_run_goes_into_a_new_folder_alone(run):
    with pytest.raises(InvalidRequestError, match="out must be a new folder"):
        run_recipe(FEW, run.parent)


def test_its_decoder_begins_with_the_rows_that_the_shipped_one_has_of_frames(run):
    seeing = train_seeing(open_answerer(), seed=3, num_steps=1, on_step=lambda *_: None)
    _, before = open_checkpoint(run)
    front = before.load_front()
    first = first_front(seeing, open_answerer())
    front.places.weight.data = first["video_frame_position_embedding.weight"]
    front.sampler.slots.data = first["sampler.slots"]
    front.projection.weight.data = first["llama_proj.weight"]
    front.projection.bias.data = first["llama_proj.bias"]
    front.seconds.weight.data = first["video_time_position_embedding"]
    frames = [render_second(draw_world("train", 5, 0), second) for second in SECONDS]
    with torch.no_grad():
        features = seeing.encoder(resized(frames))
        rows = front(features, torch.tensor(SECONDS))
    said = features[:, 0] @ first["llama_proj.weight"].T + first["llama_proj.bias"]
    # A slot also hears other frames, by a softmax whose logits lie some 30 apart.
    wanted = said + spell(torch.arange(len(SECONDS)), time_codes())
    torch.testing.assert_close(rows, wanted, atol=1e-3, rtol=1e-3)
