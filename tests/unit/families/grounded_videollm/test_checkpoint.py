"""A checkpoint's parts together: what is merged, copied and written down of it, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.checkpoint import Checkpoint
from groundserve.weights.torch_archive import read_torch_file
from tests.support.grounded_cases import PARTS
from tests.unit.families.grounded_videollm.checkpoints import (
    WEIGHTS,
    copied,
    opened,
)
from tests.unit.families.grounded_videollm.recorded import LLMS
from tests.unit.families.plans import open_copy

PHI_BASE = "Phi-3.5-vision-instruct-seperated"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("llm", LLMS)
def test_the_heads_bias_is_the_files(llm):
    checkpoint = opened(llm)
    stored = read_torch_file(checkpoint.parts.checkpoint, inside="model")
    bias = stored["language_model.base_model.model.lm_head.bias"]
    assert bias.abs().max() > 0.1
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(checkpoint.load_decoder(dtype=dtype).lm_head.bias, bias.to(dtype))


@pytest.mark.parametrize(("llm", "angles"), [("phi3.5", "float32"), ("llama3", "bfloat16")])
def test_a_copy_is_opened_again_without_being_told_its_parts(tmp_path, llm, angles):
    checkpoint = Checkpoint.open(WEIGHTS, parts={**PARTS[llm], "angles": [angles]})
    name, again = open_copy(checkpoint, tmp_path, "load_vision", "load_decoder")
    assert name == "grounded_videollm"
    assert (again.parts.llm, again.parts.angles, again.parts.left_aside) == (llm, angles, ())
    assert again.clip.config == checkpoint.clip.config
    assert again.internvideo2.config == checkpoint.internvideo2.config


def test_what_is_written_down_tells_checkpoints_apart():
    found = [opened(llm).describe() for llm in LLMS]
    for name, value in (("angles", "bfloat16"), ("clip_heads", "2"), ("internvideo_heads", "2")):
        parts = {**PARTS["llama3"], name: [value]}
        found.append(Checkpoint.open(WEIGHTS, parts=parts).describe())
    assert len({one["sha256"] for one in found}) == len(found)
    # Features are made of the decoder's file as well.
    assert {one["vision_sha256"] for one in found} == {None}


def test_angles_in_bfloat16_are_the_decoders():
    given = {**PARTS["llama3"], "angles": ["bfloat16"]}
    checkpoint = Checkpoint.open(WEIGHTS, parts=given)
    ids = torch.arange(2300)[None]
    x = torch.zeros(1)
    rounded, _ = checkpoint.load_decoder().model.rotary_emb(x, ids)
    exact, _ = opened("llama3").load_decoder().model.rotary_emb(x, ids)
    # spec/grounded_videollm.md 5.2: of 256 positions that follow 2048 sixteen are told apart.
    assert len(rounded[0, 2048:2304, 0].unique()) <= 16 < len(exact[0, 2048:2304, 0].unique())
    assert {one[0]: one[1] for one in checkpoint.findings()}["angles"] == "warn"


Change = Callable[[dict[str, dict[str, Tensor]]], object]


@pytest.fixture
def changed(tmp_path) -> Callable[[Change], Checkpoint]:
    """Open with a file of the last stage that was changed."""

    def changed(change: Change) -> Checkpoint:
        state = torch.load(opened("phi3.5").parts.checkpoint, weights_only=True)
        change(state["model"])
        torch.save(state, tmp_path / "sft.pth")
        return Checkpoint.open(
            WEIGHTS, parts={**PARTS["phi3.5"], "checkpoint": [tmp_path / "sft.pth"]}
        )

    return changed


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda m: m["language_model"].pop("base_model.model.lm_head.bias"),
            InvalidRequestError,
            r"lacks 1 tensor\(s\) of Phi3ForCausalLM: lm_head\.bias",
        ),
        (
            lambda m: m["video_projecter"].pop("up_proj.bias"),
            InvalidRequestError,
            r"lacks 1 tensor\(s\) of VisionEncoder: temporal_projector\.first\.bias",
        ),
        (
            lambda m: m.pop("language_model"),
            InvalidRequestError,
            r"it has no language_model\..*; give the file of the last stage",
        ),
        (
            lambda m: m["language_model"].update(
                {"base_model.model.model.norm.weight": torch.zeros(3)}
            ),
            InvalidRequestError,
            r"tensor model\.norm\.weight has shape \(3,\)",
        ),
    ],
    ids=["bias", "projector", "stage 1", "shape"],
)
def test_a_file_of_another_model_or_stage_is_refused_as_it_is_opened(
    changed, change, kind, message
):
    with pytest.raises(kind, match=message):
        changed(change)


def test_names_of_later_releases_of_peft_are_known(changed):
    def rename(state: dict[str, dict[str, Tensor]]) -> None:
        old = state["language_model"]
        adapted = {name.partition(".lora_")[0] for name in old if ".lora_" in name}
        state["language_model"] = {
            f"{name.removesuffix('.weight')}.base_layer.weight"
            if name.removesuffix(".weight") in adapted
            else name: tensor
            for name, tensor in old.items()
        }

    found = changed(rename).load_decoder().state_dict()
    expected = opened("phi3.5").load_decoder().state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"model_type": "llama"}, UnsupportedError, 'must be phi3, as phi3.5 has, got "llama"'),
        ({"sliding_window": 2047}, UnsupportedError, "sliding_window must be no smaller than max"),
    ],
    ids=str,
)
def test_a_base_of_another_model_is_refused_as_it_is_opened(tmp_path, values, kind, message):
    weights = copied(tmp_path)
    change(weights / PHI_BASE / "language_model_seperated" / "config.json", **values)
    with pytest.raises(kind, match=message):
        Checkpoint.open(weights, parts=PARTS["phi3.5"])


def test_vectors_of_the_other_decoder_are_refused(tmp_path):
    weights = copied(tmp_path)
    other = weights / "llama3-llava-next-8b-seperated" / "image_newline.pth"
    (weights / PHI_BASE / "image_newlines.pth").write_bytes(other.read_bytes())
    with pytest.raises(UnsupportedError, match="must hold glb_GN and sub_GN"):
        Checkpoint.open(weights, parts=PARTS["phi3.5"])


def test_a_tower_of_another_width_than_the_projectors_is_refused(tmp_path):
    tensors = read_torch_file(opened("phi3.5").parts.clip)
    torch.save({name: torch.cat((one, one), -1) for name, one in tensors.items()}, tmp_path / "c")
    with pytest.raises(InvalidRequestError, match="has shape"):
        Checkpoint.open(WEIGHTS, parts={**PARTS["phi3.5"], "clip": [tmp_path / "c"]})
