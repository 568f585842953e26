"""What decides the answers of a VTG-LLM checkpoint and is easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator

from groundserve.families.base import FindingRow
from groundserve.families.vtgllm.checkpoint import Checkpoint


def find(opened: Checkpoint) -> Iterator[FindingRow]:
    """Yield each part, how vectors are pooled, and which seconds the model knows."""
    parts, eva, q_former, llama = opened.parts, opened.eva, opened.q_former, opened.config
    yield "config", "ok", parts.config_name
    yield "checkpoint", "ok", _trained(opened)
    yield (
        "eva",
        "ok",
        f"{parts.eva.name}: {eva.num_hidden_layers} layers of {eva.hidden_size}, "
        f"{eva.num_attention_heads} heads, {eva.image_size} pixels, patches of {eva.patch_size}",
    )
    text = ", reads each frame's time" if opened.frame_text else ""
    yield (
        "q_former",
        "ok",
        f"{parts.q_former.name}: {q_former.num_hidden_layers} layers of {q_former.hidden_size}, "
        f"{parts.config.num_query_token} queries{text}",
    )
    yield (
        "base",
        "ok",
        f"{parts.base.name}: Llama, {llama.num_hidden_layers} layers of {llama.hidden_size}",
    )
    pooled = parts.config.sampler_type
    yield "sampler", "ok", pooled if pooled == "none" else f"{pooled}: {parts.config.sample_num}"
    yield "time tokens", "ok", "yes" if parts.config.special_time_token else "no"
    if opened.trained.left_aside:
        names = opened.trained.left_aside
        some = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
        yield "left aside", "warn", f"{some}: of no use to the model of {parts.config_name}"
    if parts.config.real_time_stamp:
        yield _seconds(opened)


def _trained(opened: Checkpoint) -> str:
    adapter = opened.trained.adapter
    return (
        f"{opened.parts.checkpoint.name}: {len(adapter.pairs)} adapted layers, scale "
        f"{adapter.scale:g}, {opened.vocab_size} tokens"
    )


def _seconds(opened: Checkpoint) -> FindingRow:
    table = opened.trained.front["video_time_position_embedding"]
    trained = table.ne(0).any(dim=1).nonzero().flatten().tolist()
    known = f"{len(trained)} of {len(table)} trained"
    if trained:
        known += f", the last is {trained[-1]} s"
    fill = opened.parts.time_fill
    if len(trained) == len(table):
        return "seconds", "ok", known
    others = {
        "none": "the others add nothing",
        "reference": "the others are filled as the reference does, those behind it with values "
        "that grow out of any range; time_fill=corrected interpolates",
        "corrected": "the others are interpolated, which is not what the reference does",
    }
    return "seconds", "warn" if fill == "reference" else "ok", f"{known}; {others[fill]}"
