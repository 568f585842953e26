"""A checkpoint's parts together: what wins, what is written down of it, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.vtgllm.checkpoint import Checkpoint
from groundserve.families.vtgllm.eva import EvaConfig
from tests.support.published import EVA
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import parts_of
from tests.support.vtgllm_stages import open_config
from tests.unit.families.plans import open_copy

BASE = VTGLLM / "model/instruct-blip/instruct_blip_vicuna7b_trimmed.pth"
LLAMA = "llama_model.base_model.model."


def trained_tensors(name: str = "vtgllm") -> dict[str, Tensor]:
    loaded: dict[str, Any] = torch.load(VTGLLM / "model/vtgllm" / f"{name}.pth", weights_only=True)
    return loaded.get("model", loaded)


@pytest.fixture
def open_changed(tmp_path):
    """Open the checkpoint with a trained file of other tensors."""

    def opened(tensors: dict[str, Tensor], config: str = "interpolation", **parts: str):
        path = tmp_path / "changed.pth"
        torch.save(tensors, path)
        given = {**parts_of(config), "checkpoint": [path]}
        return Checkpoint.open(VTGLLM, parts={**given, **{n: [one] for n, one in parts.items()}})

    return opened


def test_the_trained_file_goes_before_the_others_which_stand_in_for_it(open_changed):
    tensors, base = trained_tensors(), torch.load(BASE, weights_only=True)["model"]
    name = "Qformer.bert.encoder.layer.0.attention.self.key.weight"
    assert not torch.equal(tensors[name], base[name])
    key = "q_former.encoder.layer.0.attention.attention.key.weight"
    assert torch.equal(open_changed(tensors).load_vision().state_dict()[key], tensors[name])
    del tensors[name]
    # A file of an older PEFT, whose base weights the reference passes over; the tower left out.
    q_proj = f"{LLAMA}model.layers.0.self_attn.q_proj."
    tensors[f"{q_proj}weight"] = tensors.pop(f"{q_proj}base_layer.weight")
    del tensors[f"{LLAMA}model.layers.1.mlp.up_proj.weight"]
    tensors = {n: t for n, t in tensors.items() if not n.startswith("visual_encoder.")}
    opened = open_changed(tensors)
    vision = opened.load_vision().state_dict()
    assert torch.equal(vision[key], base[name])
    whole = open_config("interpolation")
    expected = whole.load_vision().state_dict()
    tower = [n for n in vision if n.startswith("visual_encoder.")]
    assert all(torch.equal(vision[n], expected[n]) for n in tower)
    decoder = whole.load_decoder().state_dict()
    assert all(torch.equal(t, decoder[n]) for n, t in opened.load_decoder().state_dict().items())


def test_older_names_are_read(open_changed):
    tensors = {
        name.replace("visual_encoder", "vision_encoder")
        .replace("Qformer", "qformer")
        .replace("ln_vision", "vision_layernorm"): tensor
        for name, tensor in trained_tensors().items()
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[f"llama_model.{name}"] = tensors.pop(LLAMA + name)
    opened, expected = open_changed(tensors), open_config("interpolation")
    for load in ("load_vision", "load_decoder"):
        states = (getattr(one, load)().state_dict() for one in (opened, expected))
        found, wanted = states
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sampler.slots", r"sampler.slots must be \(32, 256\) .* got none"),
        (f"{LLAMA}lm_head.weight", "lm_head.weight is missing, and what stands for the time"),
    ],
)
def test_what_no_other_file_has_must_be_there(open_changed, name, said):
    tensors = trained_tensors()
    del tensors[name]
    with pytest.raises(InvalidRequestError, match=said):
        open_changed(tensors)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("video_Qformer.bert.embeddings.LayerNorm.weight", "it has video_Qformer.bert"),
        ("llama_model.odd.weight", "llama_model.odd.weight must begin with"),
    ],
)
def test_what_the_model_has_not_is_refused(open_changed, name, said):
    with pytest.raises(InvalidRequestError, match=said):
        open_changed({**trained_tensors(), name: torch.zeros(2)})


def test_files_of_two_models_are_refused(open_changed):
    tensors = trained_tensors("vtgllm_no_time_token")
    with pytest.raises(InvalidRequestError, match=r"must be \(8192, 32\) .* got \(256, 32\)"):
        open_changed(tensors)
    # The decoder of the one, the tokens of the other.
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[LLAMA + name] = torch.zeros(611, 64)
    opened = open_changed(tensors, "text_input", time_fill="none")
    with pytest.raises(InvalidRequestError, match="make 612 tokens, the decoder has 611"):
        opened.load_tokenizer()


@pytest.mark.parametrize("config", ["text_input", "no_time_token"])
def test_a_copy_is_opened_again_without_parts(tmp_path, config):
    opened = open_config(config, time_fill="corrected")
    name, again = open_copy(opened, tmp_path, "load_vision", "load_front", "load_decoder")
    assert (name, again.parts.time_fill) == ("vtgllm", "corrected")
    assert again.eva == opened.eva
    assert again.model_spec(pad_token_id=0) == opened.model_spec(pad_token_id=0)


def test_hashes_tell_models_apart_and_the_visions_knows_no_fill():
    reference, none = open_config("interpolation").describe(), open_config("base").describe()
    assert reference["sha256"] != none["sha256"]
    assert reference["vision_sha256"] == none["vision_sha256"]
    text = open_config("text_input").describe()
    assert text["vision_sha256"] != none["vision_sha256"]
    heads = open_config("base", eva_heads="4").describe()
    assert heads["vision_sha256"] != none["vision_sha256"]


def test_findings_say_what_decides_answers():
    rows = {name: (how, detail) for name, how, detail in open_config("interpolation").findings()}
    assert rows["checkpoint"] == ("ok", "vtgllm.pth: 8 adapted layers, scale 1, 612 tokens")
    assert rows["seconds"][0] == "warn"
    assert "13 of 8192 trained, the last is 6000 s" in rows["seconds"][1]
    corrected = dict(row[::2] for row in open_config("base", time_fill="corrected").findings())
    assert "interpolated, which is not what the reference does" in corrected["seconds"]
    unused = {name: (how, detail) for name, how, detail in open_config("no_real_time").findings()}
    assert unused["left aside"][0] == "warn"
    assert "video_time_position_embedding" in unused["left aside"][1]
    assert "seconds" not in unused


def test_the_towers_sizes_are_those_of_its_tensors():
    shapes = {
        "patch_embed.proj.weight": (1408, 3, 14, 14),
        "pos_embed": (1, 257, 1408),
        "blocks.0.mlp.fc1.weight": (6144, 1408),
        **{f"blocks.{number}.norm1.weight": (1408,) for number in range(39)},
    }
    shapes = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert EvaConfig.from_tensors(shapes, where="eva") == EVA
    fewer = {name: shape for name, shape in shapes.items() if ".38." not in name}
    with pytest.raises(UnsupportedError, match="eva: VTG-LLM reads 39 blocks of EVA-g, got 38"):
        EvaConfig.from_tensors(fewer, where="eva")
    small = {
        "patch_embed.proj.weight": (48, 3, 14, 14),
        "pos_embed": (1, 257, 48),
        "blocks.0.mlp.fc1.weight": (96, 48),
    }
    small = {name: torch.empty(shape, device="meta") for name, shape in small.items()}
    assert EvaConfig.from_tensors(small, where="eva", num_heads=2).num_attention_heads == 2
    for num_heads, said in ((None, "how many heads a tower of width 48 has"), (5, "got 5")):
        with pytest.raises(InvalidRequestError, match=rf"{said}; give .* --part eva_heads=N"):
            EvaConfig.from_tensors(small, where="eva", num_heads=num_heads)
    del shapes["pos_embed"]
    with pytest.raises(UnsupportedError, match="eva: it must have a pos_embed of 3 dimensions"):
        EvaConfig.from_tensors(shapes, where="eva")
