"""Checkpoints through all four stages, on tiny directories that transformers wrote."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM, SiglipVisionModel

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.videoitg.checkpoint import Checkpoint, model_tensors, vision_tensors
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from tests.support.reference import SET_1
from tests.support.rounding import Float64
from tests.unit.train.layouts import (
    TOWER_NAME,
    all_tensors,
    assert_equal,
    change,
    make_config,
    make_qwen2,
    write,
)
from train.examples import Example, Text
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import AnchorModel, CausalModel
from train.families.videoitg.stages import STAGES, grounding, images, projector, video


def test_a_model_goes_through_all_four_stages(qwen2, tower, tmp_path):
    init, seed = qwen2, 0
    for name, stage in STAGES.items():
        tower_of_stage = tower if name == "projector" else None  # later found beside the weights
        initial = open_initial(
            make_config(stage, init, vision_tower=tower_of_stage), num_auxiliary=3
        )
        before = {key: value.clone() for key, value in initial.model.state_dict().items()}
        if init != qwen2:
            kept = {k: v for k, v in before.items() if not k.startswith(("auxiliary.", "head."))}
            written = model_tensors(init)
            written.pop("lm_head.weight" if name == "grounding" else "", None)
            assert_equal(kept, written)
        after = change(initial, seed)
        moved = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
        heads = {"auxiliary", "head" if name == "grounding" else "lm_head"}
        expected = {"projector", "decoder", *heads}
        assert moved == ({"projector", "auxiliary"} if name == "projector" else expected)
        init, seed = write(tmp_path / name, initial), seed + 1

    generator = torch.Generator().manual_seed(9)
    features = torch.randn(5, 4, 24, generator=generator, dtype=torch.float64)
    ids = np.array([30, 40, 50])
    text = Text(ids=np.array([IMAGE_TOKEN_ID, *ids]))
    example = Example(frames=np.zeros((5, 56, 56, 3), np.uint8), tokens_per_frame=4, texts=(text,))
    model, served = initial.model.eval().double(), Checkpoint.open(init).load_grounding().double()
    with Float64():
        trained = model([example], [features]).frame_logits[0]
        served = served(features, torch.from_numpy(ids))
    # float64 rounds to 1e-16, and the model takes a few thousand operations.
    torch.testing.assert_close(trained, served, rtol=0, atol=1e-11)
    assert served.std() > 1e-3


def test_the_first_stage_starts_from_the_language_model(qwen2, tower, tmp_path):
    initial = open_initial(make_config(projector, qwen2, vision_tower=tower), num_auxiliary=0)
    theirs = Qwen2ForCausalLM.from_pretrained(qwen2)
    assert isinstance(initial.model, CausalModel)
    assert_equal(initial.model.decoder.state_dict(), theirs.model.state_dict())
    assert_equal(initial.model.lm_head.state_dict(), theirs.lm_head.state_dict())
    ids = torch.arange(20)[None]
    with Float64():
        ours = initial.model.decoder.double()(input_ids=ids, use_cache=False).last_hidden_state
        expected = theirs.model.double()(ids).last_hidden_state
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11)
    assert initial.checkpoint.directory == qwen2
    assert initial.checkpoint.tower_directory == tower
    tokenizer, pad_token_id = initial.checkpoint.load_tokenizer()
    assert tokenizer.id_to_token(pad_token_id) == "<|endoftext|>"


def test_the_tower_is_the_whole_one_and_frozen(qwen2, tower, tmp_path):
    config = make_config(projector, qwen2, vision_tower=tower)
    initial = open_initial(config, num_auxiliary=0)
    assert not initial.vision.training
    assert not any(parameter.requires_grad for parameter in initial.vision.parameters())
    theirs = SiglipVisionModel.from_pretrained(tower).state_dict()
    for own in (
        initial,
        open_initial(make_config(images, write(tmp_path / "1", initial)), num_auxiliary=0),
    ):
        for name, tensor in own.vision.state_dict().items():
            assert torch.equal(tensor, theirs[name])
    # Also the layer, the norm and the head that nothing here computes.
    assert_equal(vision_tensors(tmp_path / "1", in_tower=False), theirs)
    assert_equal(vision_tensors(tmp_path / "1" / TOWER_NAME, in_tower=True), theirs)
    assert all(
        name.startswith("vision_model.") for name in all_tensors(tmp_path / "1" / TOWER_NAME)
    )


def test_new_parts_come_from_the_seed_alone(qwen2, tower):
    def new(seed, num_auxiliary=0):
        config = make_config(grounding, qwen2, vision_tower=tower, seed=seed)
        tensors = open_initial(config, num_auxiliary=num_auxiliary).model.state_dict()
        return {name: t for name, t in tensors.items() if not name.startswith("decoder.")}

    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = new(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    assert_equal(first, new(1))
    with_auxiliary = new(1, num_auxiliary=2)
    assert with_auxiliary.keys() - first.keys() == {"auxiliary.weight", "auxiliary.bias"}
    assert_equal(first, {name: with_auxiliary[name] for name in first})
    assert not torch.equal(first["head.weight"], new(2)["head.weight"])
    assert not first["head.bias"].any()
    assert first["head.weight"].std().item() == pytest.approx(0.02, rel=0.5)
    # torch's default for linear layers: uniform within 1 / sqrt(width of the input).
    for layer, width in (("projector.0", 24), ("projector.2", 32)):
        for part in ("weight", "bias"):
            largest = first[f"{layer}.{part}"].abs().max().item()
            assert 0.5 * width**-0.5 < largest <= width**-0.5


def test_tied_embeddings_are_copied_and_written_apart(tower, tmp_path, caplog):
    folder = make_qwen2(tmp_path / "tied", tie_word_embeddings=True)
    with caplog.at_level(logging.INFO, "train.families.videoitg.family"):
        initial = open_initial(make_config(images, folder, vision_tower=tower), num_auxiliary=0)
    assert (
        "copied from the embedding table: lm_head; new: projector; dropped: nothing" in caplog.text
    )
    table, head = initial.model.decoder.embed_tokens.weight, initial.model.lm_head.weight
    assert torch.equal(table, head)
    assert table.data_ptr() != head.data_ptr()
    change(initial, 1)
    again = open_initial(make_config(images, write(tmp_path / "out", initial)), num_auxiliary=0)
    assert_equal(again.model.state_dict(), initial.model.state_dict())
    assert not torch.equal(again.model.decoder.embed_tokens.weight, again.model.lm_head.weight)


def test_config_json_of_the_last_stage(qwen2, tower, tmp_path):
    """It says what the reference's says where that tells no size."""
    initial = open_initial(make_config(grounding, qwen2, vision_tower=tower), num_auxiliary=0)
    written = json.loads((write(tmp_path / "4", initial) / "config.json").read_text())
    published = json.loads((SET_1 / "videoitg-tiny" / "config.json").read_text())
    sizes = {"max_window_layers": 2, "mm_vision_tower": TOWER_NAME, "vision_token_num": 16384}
    sizes |= {"vocab_size": 380, "hidden_size": 32, "intermediate_size": 48, "mm_hidden_size": 24}
    sizes |= {"max_position_embeddings": 512}
    version = {"transformers_version": written["transformers_version"]}
    training = {"image_aspect_ratio": "square", "mm_projector_lr": None}
    training |= dict.fromkeys(("tune_mm_mlp_adapter", "save_mm_mlp_adapter"), False)
    training |= {"freeze_mm_mlp_adapter": False}
    assert written == {**published, **training, **sizes, **version}


def test_a_known_tower_keeps_its_name_on_the_hub(qwen2, tower, tmp_path):
    known = tmp_path / "siglip-so400m-patch14-384"
    known.symlink_to(tower)
    initial = open_initial(make_config(grounding, qwen2, vision_tower=known), num_auxiliary=0)
    assert initial.checkpoint.raw_config["mm_vision_tower"] == "google/siglip-so400m-patch14-384"
    opened = Checkpoint.open(write(tmp_path / "4", initial))
    assert opened.tower_directory == tmp_path / "4" / "siglip-so400m-patch14-384"


def test_anchors_are_trained_on_and_not_served(qwen2, tower, tmp_path):
    anchors = make_config(grounding, qwen2, vision_tower=tower, variant="anchor")
    initial = open_initial(anchors, num_auxiliary=0)
    assert isinstance(initial.model, AnchorModel)
    out = write(tmp_path / "4", initial)
    with pytest.raises(UnsupportedError, match="grounding_variant is 'anchor'; groundserve comp"):
        Checkpoint.open(out)
    again = open_initial(replace(anchors, init=out, vision_tower=None), num_auxiliary=0)
    assert_equal(again.model.state_dict(), initial.model.state_dict())
    with pytest.raises(InvalidRequestError, match='variant must be "anchor", as init was trained'):
        open_initial(make_config(grounding, out), num_auxiliary=0)
    text_again = open_initial(make_config(video, out), num_auxiliary=0)  # the head goes anyway
    assert "grounding_variant" not in text_again.checkpoint.raw_config
