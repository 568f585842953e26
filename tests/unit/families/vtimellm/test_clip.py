"""CLIP's tower in its two forms."""

from __future__ import annotations

import pytest
import torch

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.vtimellm.clip import ClipConfig, ClipSource
from tests.support.reference import VTIMELLM

CLIP = VTIMELLM / "checkpoints" / "clip"
DIRECTORY = VTIMELLM / "checkpoints" / "clip-hf"
LARGE = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}


def test_the_forms_hold_the_same_tower():
    archive = ClipSource(CLIP / "ViT-tiny.pt")
    others = [ClipSource(CLIP / "ViT-tiny-state_dict.pt"), ClipSource(DIRECTORY)]
    expected = archive.tensors()
    assert len(expected) == 8 + 2 * 16
    for other in others:
        assert other.config == archive.config
        found = other.tensors()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[n].float(), t.float()) for n, t in expected.items())


def test_heads_are_64_wide_or_as_given(tmp_path):
    tensors = {
        "visual.conv1.weight": torch.zeros(40, 3, 14, 14),
        "visual.positional_embedding": torch.zeros(257, 40),
        "visual.proj": torch.zeros(40, 8),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": torch.zeros(80, 40),
    }
    torch.save(tensors, tmp_path / "ViT.pt")
    found = ClipSource(tmp_path / "ViT.pt", num_heads=5).config
    assert found.num_attention_heads == 5
    for num_heads, said in ((None, "how many heads a tower of width 40 has"), (3, "got 3")):
        with pytest.raises(InvalidRequestError, match=rf"{said}; give .* --part clip_heads=N"):
            ClipSource(tmp_path / "ViT.pt", num_heads=num_heads)
    assert ClipSource(CLIP / "ViT-tiny.pt").config.num_attention_heads == 2
    assert ClipSource(DIRECTORY, num_heads=4).config.num_attention_heads == 4
    with pytest.raises(InvalidRequestError, match=r"width, 128, .* got 3; give .*clip_heads=N"):
        ClipSource(DIRECTORY, num_heads=3)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model_type": "siglip_vision_model"}, UnsupportedError, "model_type clip or clip_vision"),
        ({"hidden_act": "gelu"}, UnsupportedError, 'hidden_act quick_gelu.*got "gelu"'),
        ({"num_attention_heads": 15}, UnsupportedError, "no vision tower has the sizes"),
    ],
)
def test_a_config_of_another_model_is_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        ClipConfig.from_dict({**LARGE, **change})


def test_a_file_without_a_vision_transformer_is_refused(tmp_path):
    path = tmp_path / "RN50.pt"
    torch.save({"visual.conv1.weight": torch.zeros(2, 3, 3, 3), "text.weight": torch.ones(1)}, path)
    with pytest.raises(UnsupportedError, match=r"no visual\.positional_embedding of 2 dimensions"):
        ClipSource(path)
