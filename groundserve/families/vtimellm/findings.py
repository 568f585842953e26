"""What decides the answers of a VTimeLLM checkpoint and is easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator

from groundserve.families.base import FindingRow
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.weights.torch_archive import is_script_archive


def find(opened: Checkpoint) -> Iterator[FindingRow]:
    """Yield each part, what was left aside, and how frames are resized."""
    parts, config = opened.parts, opened.config
    yield "clip", "ok", _clip(opened)
    yield (
        "base",
        "ok",
        f"{parts.base.name}: Llama, {config.num_hidden_layers} layers of {config.hidden_size}",
    )
    width = opened.clip.config.projection_dim
    place = f"{parts.projector.parent.name}/{parts.projector.name}"
    yield "projector", "ok", f"{place}: {width} to {config.hidden_size}"
    for adapter in opened.adapters:
        detail = f"{adapter.name}: {len(adapter.pairs)} layers, scale {adapter.scale:g}"
        if adapter.whole:
            yield "adapter", "warn", f"{detail}; it replaces {', '.join(sorted(adapter.whole))}"
        else:
            yield "adapter", "ok", detail
    if len(opened.adapters) == 1:
        yield "adapters", "warn", "one stage alone: answers keep to the wording it was trained on"
    if parts.left_aside:
        yield "left aside", "ok", ", ".join(parts.left_aside)
    detail = "on, as with torchvision 0.17 or later" if parts.antialias else "off, as published"
    yield "antialias", "warn" if parts.antialias else "ok", detail


def _clip(opened: Checkpoint) -> str:
    path, config = opened.clip.path, opened.clip.config
    if path.is_dir():
        kind = "a directory of transformers"
    else:
        kind = "OpenAI's archive" if is_script_archive(path) else "a state dict"
    return (
        f"{path.name}, {kind}: {config.num_hidden_layers} layers of {config.hidden_size}, "
        f"{config.num_attention_heads} heads, {config.image_size} pixels, patches of "
        f"{config.patch_size}"
    )
