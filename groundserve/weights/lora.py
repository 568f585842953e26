"""LoRA adapters as PEFT writes them: reading them, and adding them to the weights they belong to.

Shape letters: r rank, i and o width of a layer's input and output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.strict_json import shown
from groundserve.weights.tensors import read_json
from groundserve.weights.torch_archive import read_torch_file

CONFIG_NAME = "adapter_config.json"
"""By which a directory is known as an adapter."""

# Of two, the one that PEFT reads.
_WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
# With the adapter's name, which is always this, or without.
_KEY = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# By which PEFT names the layer itself inside an adapted one, since 0.6.
_BASE_LAYER = ".base_layer."
# What a setting must be, where there is one: with anything else PEFT computes another product.
_ALLOWED: dict[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "init_lora_weights": (True, False, "gaussian"),  # others change the base as well
    "lora_bias": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "alora_invocation_tokens": (None,),  # with any it acts behind them alone
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """One adapter; its tensors are mapped into memory."""

    name: str
    scale: float
    """What the product is multiplied by."""
    targets: tuple[str, ...]
    """Last names of the layers it was trained on; () where that is not known."""
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Name of a weight (o, i) -> A (r, i) and B (o, r)."""
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    """What was trained beside the adapter: name -> value, which takes the place of the base's."""

    @classmethod
    def open(cls, directory: Path, *, whole: Mapping[str, Tensor] | None = None) -> Adapter:
        """Open a directory with `adapter_config.json` and the adapter's weights.

        UnsupportedError where it is not plain LoRA.
        """
        where = f"adapter {directory.name}"
        config = read_json(directory / CONFIG_NAME)
        for name, allowed in _ALLOWED.items():
            if config.get(name, allowed[0]) not in allowed:
                raise UnsupportedError(
                    f"{where}: {name} must be {shown(allowed[0])}, got {shown(config[name])}; only "
                    "plain LoRA is merged"
                )
        rank, alpha = (_positive(where, config, name) for name in ("r", "lora_alpha"))
        targets = _targets(where, config)
        return cls(
            name=directory.name,
            scale=alpha / (math.sqrt(rank) if _is_rank_stable(where, config) else rank),
            targets=() if config.get("layers_to_transform") is not None else targets,
            pairs=_pairs(where, _read_weights(directory), prefix=_PREFIX, rank=int(rank)),
            whole=whole or {},
        )

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse what is no adapter of a model with weights of these shapes, or not all of one."""
        where = f"adapter {self.name}"
        found = {name: (b.shape[0], a.shape[1]) for name, (a, b) in self.pairs.items()}
        for name, shape in [*found.items(), *((n, t.shape) for n, t in self.whole.items())]:
            if name not in shapes:
                raise InvalidRequestError(
                    f"{where}: it is for {name}, which the model has not; give the base that it "
                    "was trained on"
                )
            if tuple(shape) != tuple(shapes[name]):
                raise InvalidRequestError(
                    f"{where}: for {name} its shape is {tuple(shape)}, the model's is "
                    f"{tuple(shapes[name])}; give the base that it was trained on"
                )
        ends = tuple(f".{target}.weight" for target in self.targets)
        missing = [name for name in shapes if name.endswith(ends) and name not in self.pairs]
        if ends and missing:
            raise InvalidRequestError(
                f"{where}: it lacks {len(missing)} of the layers that it was trained on, such as "
                f"{missing[0]}; download it again"
            )


def merge(name: str, weight: Tensor, adapters: Iterable[Adapter], *, dtype: torch.dtype) -> Tensor:
    """Add to a weight (o, i) what each adapter in turn has for it: W + scale * (B @ A).

    Products and sums are of float32 and rounded to `dtype` after each adapter: in float16 bit for
    bit what PEFT 0.4.0 makes of a float16 model.

    Source: huggingface/peft v0.4.0, `src/peft/tuners/lora.py`.
    """
    merged = weight.to(dtype)
    for adapter in adapters:
        merged = adapter.whole.get(name, merged).to(dtype)
        if name in adapter.pairs:
            # By way of float32: what the file has in bfloat16 may be below float16's least.
            a, b = (one.to(torch.float32) for one in adapter.pairs[name])
            product = (b @ a).mul_(adapter.scale)
            if not product.isfinite().all():
                raise InvalidRequestError(
                    f"adapter {adapter.name}: for {name} it holds NaN or infinity; download it "
                    "again"
                )
            merged = product.add_(merged).to(dtype)
    return merged


def split_state_dict(
    tensors: Mapping[str, Tensor], *, name: str, prefix: str, rank: int, alpha: float
) -> tuple[dict[str, Tensor], Adapter]:
    """Split the state dict of a model that PEFT wraps: its own tensors, and the adapter's.

    Args:
        tensors: Of the model alone, all of them or some, by PEFT's names: an adapted layer's own
            tensors as X.weight (PEFT 0.3.0) or X.base_layer.weight (0.6 and later).
        name: Of the file, for errors.
        prefix: Of every name, such as "base_model.model."; the model's are returned without.
        rank: r.
        alpha: Of `lora_alpha`; the product is multiplied by alpha / r.
    """
    base: dict[str, Tensor] = {}
    adapted: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        own = key.removeprefix(prefix)
        if own == key:
            raise InvalidRequestError(f"{name}: {key[:120]} must begin with {prefix}")
        if ".lora_" in own:
            adapted[key] = tensor
            continue
        own = own.replace(_BASE_LAYER, ".")
        if own in base:
            raise InvalidRequestError(f"{name}: it has {own[:120]} twice; download it again")
        base[own] = tensor
    pairs = _pairs(f"adapter {name}", adapted, prefix=prefix, rank=rank)
    adapter = Adapter(
        name=name,
        scale=alpha / rank,
        targets=tuple(sorted({pair.split(".")[-2] for pair in pairs})),
        pairs=pairs,
    )
    return base, adapter


def adapter_files(directory: Path) -> list[Path]:
    """Return the files of an adapter that decide what it does."""
    weights = [directory / name for name in _WEIGHT_NAMES if (directory / name).is_file()]
    if not weights:
        raise InvalidRequestError(
            f"adapter {directory.name}: {_WEIGHT_NAMES[1]} is missing; download it again"
        )
    return [directory / CONFIG_NAME, weights[0]]


def _read_weights(directory: Path) -> dict[str, Tensor]:
    _, path = adapter_files(directory)
    if path.suffix == ".bin":
        return read_torch_file(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidRequestError(
            f"adapter {directory.name}: {path.name} is damaged; download it again"
        ) from error


def _pairs(
    where: str, tensors: Mapping[str, Tensor], *, prefix: str, rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key.removeprefix(prefix))
        if match is None or not key.startswith(prefix):
            raise UnsupportedError(f"{where}: {key[:120]} is no tensor of plain LoRA")
        sides.setdefault(f"{match['layer']}.weight", {})[match["side"]] = tensor
    pairs = {}
    for name, found in sides.items():
        if found.keys() != {"A", "B"}:
            raise InvalidRequestError(
                f"{where}: for {name} it has lora_{''.join(found)} alone; download it again"
            )
        a, b = found["A"], found["B"]
        if not (a.is_floating_point() and b.is_floating_point()):
            raise UnsupportedError(
                f"{where}: for {name} lora_A and lora_B must hold floats, got {a.dtype} and "
                f"{b.dtype}; only plain LoRA is merged"
            )
        if not (a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == rank):
            raise InvalidRequestError(
                f"{where}: for {name} lora_A and lora_B must be ({rank}, i) and (o, {rank}), got "
                f"{tuple(a.shape)} and {tuple(b.shape)}; give what was trained with that rank"
            )
        pairs[name] = a, b
    if not pairs:
        raise InvalidRequestError(f"{where}: it holds no tensors; download it again")
    return pairs


def _targets(where: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the last names of the layers; () where none are named, or by an expression."""
    targets = config.get("target_modules") or ()
    if isinstance(targets, str):
        return ()
    if not isinstance(targets, list | tuple) or not all(isinstance(one, str) for one in targets):
        raise InvalidRequestError(
            f"{where}: target_modules in {CONFIG_NAME} must be a list of names or an expression, "
            f"got {shown(targets)}"
        )
    return tuple(targets)


def _is_rank_stable(where: str, config: Mapping[str, Any]) -> bool:
    value = config.get("use_rslora", False)
    if not isinstance(value, bool):
        raise InvalidRequestError(
            f"{where}: use_rslora in {CONFIG_NAME} must be true or false, got {shown(value)}"
        )
    return value


def _positive(where: str, config: Mapping[str, Any], name: str) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31:
        raise InvalidRequestError(
            f"{where}: {name} in {CONFIG_NAME} must be a number above 0, got {shown(value)}"
        )
    return value
