"""What decides the answers of a Grounded-VideoLLM checkpoint and is easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator

from groundserve.families.base import FindingRow
from groundserve.families.grounded_videollm.checkpoint import Checkpoint


def find(opened: Checkpoint) -> Iterator[FindingRow]:
    """Yield each part, what was left aside, and how positions are rotated."""
    parts, clip, internvideo2 = opened.parts, opened.clip.config, opened.internvideo2.config
    yield (
        "clip",
        "ok",
        f"{parts.clip.parent.name}/{parts.clip.name}: {clip.num_hidden_layers} of "
        f"{clip.num_hidden_layers + 1} layers of {clip.hidden_size}, {clip.num_attention_heads} "
        f"heads, {clip.image_size} pixels",
    )
    yield (
        "internvideo",
        "ok",
        f"{parts.internvideo.name}: {internvideo2.num_blocks} of {internvideo2.num_blocks + 1} "
        f"blocks of {internvideo2.width}, {internvideo2.num_heads} heads, "
        f"{internvideo2.num_frames} frames of {internvideo2.image_size} pixels",
    )
    adapter, config = opened.tuned.adapter, opened.config
    yield (
        "checkpoint",
        "ok",
        f"{parts.checkpoint.name}: {parts.llm}, {config.num_hidden_layers} layers of "
        f"{config.hidden_size}, {opened.vocab_size} rows, adapter of {len(adapter.pairs)} layers, "
        f"scale {adapter.scale:g}",
    )
    yield "base", "ok", parts.base.name
    yield "tokenizer", "ok", parts.tokenizer.name
    if parts.left_aside:
        yield "left aside", "ok", ", ".join(parts.left_aside)
    if parts.angles == "bfloat16":
        detail = "bfloat16, as the reference in 16 bits: 16 positions of 256 are told apart"
        yield "angles", "warn", detail
    else:
        yield "angles", "ok", "float32"
