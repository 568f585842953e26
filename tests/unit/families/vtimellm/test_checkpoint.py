"""A checkpoint's parts together: what is merged, what is written down of it, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.vtimellm.checkpoint import Checkpoint
from tests.support.reference import VTIMELLM
from tests.unit.families.plans import open_copy

CASES = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))
MERGED = CASES["merged_weights"]
CHECKPOINTS = VTIMELLM / "checkpoints"
STAGE = "vtimellm-vicuna-tiny-stage"
PROJECTOR = "model.mm_projector."


@cache
def open_model(model: str) -> Checkpoint:
    """Open one of the recorded models, by its stages."""
    stages = CASES["about"]["models"][model]
    adapters = [CHECKPOINTS / f"vtimellm-vicuna-tiny-{stage}" for stage in stages]
    return Checkpoint.open(CHECKPOINTS, parts={"adapter": adapters})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("clip-hf", "*state_dict*", "*tuned*")
    return shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints", ignore=ignored)


def weights(model: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """All of front and decoder by the reference's names."""
    opened = open_model(model)
    front = opened.load_front(dtype=dtype).linear.state_dict()
    decoder = opened.load_decoder(dtype=dtype).state_dict()
    return decoder | {PROJECTOR + name: tensor for name, tensor in front.items()}


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("model", ["stage2", "stage3", "stage2-tuned-projector"])
def test_merged_in_float16_every_bit_is_the_references(model):
    found = weights(model, torch.float16)
    recorded = MERGED[model]["float16"]
    assert recorded.keys() <= found.keys()
    for name, expected in recorded.items():
        digest = hashlib.sha256(found[name].contiguous().numpy()).hexdigest()
        assert digest == expected["sha256"], name


@pytest.mark.parametrize("model", ["stage2", "stage3", "stage2-tuned-projector"])
def test_merged_in_float32_nothing_is_rounded(model):
    found = weights(model, torch.float32)
    for name, expected in MERGED[model]["float32"].items():
        tensor = found[name].double()
        assert list(tensor.shape) == expected["shape"]
        # One rounding of each stage's products and sum, and ten digits.
        assert tensor.norm().item() == pytest.approx(expected["l2"], rel=1e-6)
        first = tensor.flatten()[:4].tolist()
        assert first == pytest.approx(expected["first"], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("clip", "antialias"), [("clip/ViT-tiny.pt", "on"), ("clip-hf", "off")])
def test_a_copy_is_opened_again(tmp_path, clip, antialias):
    parts = {"clip": [clip], "antialias": [antialias], "clip_heads": ["4"]}
    opened = Checkpoint.open(CHECKPOINTS, parts=parts)
    name, again = open_copy(opened, tmp_path, "load_vision", "load_decoder")
    assert name == "vtimellm"
    assert again.parts.antialias is (antialias == "on")
    assert again.clip.config == opened.clip.config
    assert opened.clip.config.num_attention_heads == 4
    assert again.parts.left_aside == ()


def test_hashes_tell_models_apart_and_the_visions_knows_the_resizing():
    stage2, stage3 = (open_model(name).describe() for name in ("stage2", "stage3"))
    assert stage2["sha256"] != stage3["sha256"]
    assert stage2["vision_sha256"] == stage3["vision_sha256"]
    antialias = Checkpoint.open(CHECKPOINTS, parts={"antialias": ["on"]}).describe()
    assert antialias["sha256"] == stage3["sha256"]
    assert antialias["vision_sha256"] != stage3["vision_sha256"]


def test_findings_warn_of_what_is_unusual():
    tuned = open_model("stage2-tuned-projector")
    warned = {row[0]: row[2] for row in tuned.findings() if row[1] == "warn"}
    assert warned.keys() == {"adapter", "adapters"}
    assert warned["adapter"].endswith(f"it replaces {PROJECTOR}bias, {PROJECTOR}weight")
    antialias = Checkpoint.open(CHECKPOINTS, parts={"antialias": ["on"]})
    assert ("antialias", "warn") in [row[:2] for row in antialias.findings()]


def test_safetensors_do_as_well(copied):
    base = copied / "vicuna-tiny"
    tensors = {}
    for path in base.glob("pytorch_model-*.bin"):
        tensors |= torch.load(path, weights_only=True)
        path.unlink()
    save_file(tensors, base / "model.safetensors")
    (base / "pytorch_model.bin.index.json").unlink()
    for stage in (2, 3):
        path = copied / f"{STAGE}{stage}" / "adapter_model.bin"
        save_file(torch.load(path, weights_only=True), path.with_suffix(".safetensors"))
        path.unlink()
    found = Checkpoint.open(copied, parts={}).load_decoder().state_dict()
    expected = open_model("stage3").load_decoder().state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"model_type": "chatglm"}, UnsupportedError, 'model_type must be llama.*got "chatglm"'),
        ({"hidden_size": 128}, InvalidRequestError, "the decoder's 128, got .*parts of one model"),
        ({"num_hidden_layers": 3}, InvalidRequestError, "lacks 7 of the layers"),
        # Of each a module would be made, for hours.
        ({"num_hidden_layers": 10**9}, UnsupportedError, "num_hidden_layers must be at most 1000"),
    ],
    ids=str,
)
def test_a_base_of_another_model_is_refused_as_it_is_opened(copied, values, kind, message):
    change(copied / "vicuna-tiny" / "config.json", **values)
    with pytest.raises(kind, match=message):
        Checkpoint.open(copied, parts={"base": [copied / "vicuna-tiny"]})


def test_a_tokenizer_with_more_tokens_than_the_decoder_is_refused(copied):
    change(copied / "vicuna-tiny" / "config.json", vocab_size=600)
    opened = Checkpoint.open(copied, parts={})
    with pytest.raises(InvalidRequestError, match="has 640 tokens, its decoder 600"):
        opened.load_tokenizer()
    with pytest.raises(InvalidRequestError, match=r"has shape \(640, 64\)"):
        opened.load_decoder()


def test_a_projector_of_another_model_is_refused(copied):
    tensors = {"weight": torch.zeros(32, 64), "bias": torch.zeros(64)}
    path = copied / f"{STAGE}1" / "mm_projector.bin"
    # Whatever stands in front is ignored.
    torch.save({f"module.{PROJECTOR}{name}": t for name, t in tensors.items()}, path)
    with pytest.raises(InvalidRequestError, match=r"got \(32, 64\)"):
        Checkpoint.open(copied, parts={})


@pytest.mark.parametrize("prefix", ["base_model.model.model.", "base_model.model.", "model."])
def test_names_of_what_was_trained_beside_it_are_the_references(copied, prefix):
    whole = {f"{prefix}norm.weight": torch.full((64,), 3.0)}
    torch.save(whole, copied / f"{STAGE}2" / "non_lora_trainables.bin")
    assert Checkpoint.open(copied, parts={}).load_decoder().model.norm.weight.tolist() == [3.0] * 64


def test_a_projector_that_is_not_finite_is_refused_as_it_is_read(copied):
    path = copied / f"{STAGE}1" / "mm_projector.bin"
    tensors = torch.load(path, weights_only=True)
    next(iter(tensors.values())).view(-1)[5] = torch.nan
    torch.save(tensors, path)
    with pytest.raises(InvalidRequestError, match="holds NaN or infinity in float32"):
        Checkpoint.open(copied, parts={}).load_front()
