"""LoRA adapters: what they add, and those that are not plain or not of this model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.weights.lora import Adapter, adapter_files, merge

RANK, WIDTH_IN, WIDTH_OUT = 4, 12, 20
LAYER = "model.layers.0.mlp.up_proj"
NAME = f"{LAYER}.weight"
SHAPES = {NAME: (WIDTH_OUT, WIDTH_IN), "model.norm.weight": (WIDTH_IN,)}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": 8,
    "target_modules": ["up_proj"],
    "bias": "none",
}


def tensors(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"base_model.model.{LAYER}.lora_{side}.weight": torch.randn(shape, generator=generator).to(
            dtype
        )
        for side, shape in (("A", (RANK, WIDTH_IN)), ("B", (WIDTH_OUT, RANK)))
    }


def write(directory: Path, found: dict[str, Tensor], *, form: str = "bin", **config: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    if form == "bin":
        torch.save(found, directory / "adapter_model.bin")
    else:
        save_file(found, directory / "adapter_model.safetensors")
    return directory


def constant(value: float, *, scale: float = 1.0) -> Adapter:
    """An adapter that adds the same to a weight of one element."""
    pair = torch.full((1, 1), value), torch.ones(1, 1)
    return Adapter(name="a", scale=scale, targets=(), pairs={"w": pair}, whole={})


@pytest.mark.parametrize("form", ["bin", "safetensors"])
@pytest.mark.parametrize("name", ["", ".default"])
def test_what_is_merged_does_what_the_two_matrices_do_beside_the_weight(tmp_path, form, name):
    found = {
        key.replace(".weight", f"{name}.weight"): value
        for key, value in tensors(dtype=torch.bfloat16).items()
    }
    adapter = Adapter.open(write(tmp_path / "a", found, form=form))
    assert (adapter.name, adapter.scale, adapter.pairs.keys()) == ("a", 2.0, {NAME})
    adapter.check(SHAPES)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((WIDTH_OUT, WIDTH_IN), generator=generator)
    x = torch.randn(WIDTH_IN, generator=generator, dtype=torch.float64)
    a, b = (one.double() for one in tensors(dtype=torch.bfloat16).values())
    expected = weight.double() @ x + 2.0 * (b @ (a @ x))
    merged = merge(NAME, weight, [adapter], dtype=torch.float32).double() @ x
    # r products and sums of float32, and one sum with the weight.
    size = 2.0 * (b.abs() @ a.abs()) + weight.double().abs()
    assert ((merged - expected).abs() <= (RANK + 1) * 2.0**-24 * (size @ x.abs())).all()


def test_the_rank_stabilised_scale_is_known(tmp_path):
    adapter = Adapter.open(write(tmp_path / "a", tensors(), use_rslora=True))
    assert adapter.scale == 8 / RANK**0.5


def test_what_float16_cannot_hold_of_an_adapter_is_not_lost_on_the_way():
    tiny = 1.0078125 * 2.0**-22  # of bfloat16; float16 has no such bits there
    merged = merge("w", torch.zeros(1, 1), [constant(tiny, scale=2.0**12)], dtype=torch.float16)
    assert merged.item() == 1.0078125 * 2.0**-10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidRequestError, match=r"adapter a: for w it holds NaN or infinity"):
        merge("w", torch.zeros(1, 1), [constant(value)], dtype=torch.float32)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"peft_type": "IA3"}, 'peft_type must be "LORA", got "IA3"'),
        ({"bias": "all"}, 'bias must be "none"'),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save must be null"),
        ({"alora_invocation_tokens": [5]}, r"alora_invocation_tokens must be null, got \[5\]"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_plain_lora_is_refused(tmp_path, setting, message):
    with pytest.raises(UnsupportedError, match=f"adapter a: {message}"):
        Adapter.open(write(tmp_path / "a", tensors(), **setting))


@pytest.mark.parametrize("value", [0, -1, None, "8", True, 2**31])
@pytest.mark.parametrize("name", ["r", "lora_alpha"])
def test_a_rank_or_scale_that_is_none_is_refused(tmp_path, name, value):
    with pytest.raises(InvalidRequestError, match=f"{name} in adapter_config.json must be a num"):
        Adapter.open(write(tmp_path / "a", tensors(), **{name: value}))


A, B = tensors()


@pytest.mark.parametrize(
    ("found", "kind", "message"),
    [
        ({A: tensors()[A]}, InvalidRequestError, f"for {NAME} it has lora_A alone"),
        ({**tensors(), A: torch.zeros(RANK + 1, 3)}, InvalidRequestError, r"must be \(4, i\)"),
        ({**tensors(), "x.lora_C.weight": torch.zeros(1)}, UnsupportedError, "x.lora_C.weight is"),
    ],
    ids=["one side", "rank", "unknown"],
)
def test_tensors_that_do_not_go_together_are_refused(tmp_path, found, kind, message):
    with pytest.raises(kind, match=f"adapter a: .*{message}"):
        Adapter.open(write(tmp_path / "a", found))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, f"it is for {NAME}, which the model has not"),
        ({NAME: (WIDTH_OUT, 3)}, rf"for {NAME} its shape is \(20, 12\), the model's is \(20, 3\)"),
        (
            {**SHAPES, "model.layers.1.mlp.up_proj.weight": (1, 1)},
            "it lacks 1 of the layers that it was trained on, such as model.layers.1.mlp.up_proj",
        ),
    ],
    ids=["another model", "another width", "cut off"],
)
def test_an_adapter_of_another_model_is_refused(tmp_path, shapes, message):
    adapter = Adapter.open(write(tmp_path / "a", tensors()))
    with pytest.raises(InvalidRequestError, match=message):
        adapter.check(shapes)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    directory = write(tmp_path / "a", tensors())
    (directory / "adapter_model.bin").unlink()
    with pytest.raises(InvalidRequestError, match=r"adapter a: adapter_model\.bin is missing"):
        adapter_files(directory)
    (directory / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(InvalidRequestError, match=r"adapter_model\.safetensors is damaged"):
        Adapter.open(directory)
    (directory / "adapter_config.json").write_text("[]")
    with pytest.raises(InvalidRequestError, match=r"adapter_config\.json is not an object"):
        Adapter.open(directory)


def test_layers_that_an_expression_names_are_not_looked_for(tmp_path):
    adapter = Adapter.open(write(tmp_path / "a", tensors(), target_modules=r".*\.up_proj"))
    assert adapter.targets == ()
