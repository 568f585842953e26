"""What decides the scores of a VideoITG checkpoint and is easily got wrong."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from groundserve.families.base import FindingRow
from groundserve.families.videoitg.checkpoint import Checkpoint, vision_tensors
from groundserve.families.videoitg.grid import grid_side
from groundserve.options import DEFAULT_NUM_FRAMES


def find(opened: Checkpoint) -> Iterator[FindingRow]:
    """Yield budget and grid, padding, projector, and whose vision weights are used."""
    budget, side = opened.config.vision_token_num, opened.vision_config.side
    grid = grid_side(min(DEFAULT_NUM_FRAMES, budget), vision_token_num=budget, side=side)
    yield (
        "vision_token_num",
        "ok",
        f"{budget}: {grid * grid} tokens a frame at {DEFAULT_NUM_FRAMES} frames ({grid} x {grid})",
    )
    tokenizer, pad_token_id = opened.load_tokenizer()
    pad = tokenizer.id_to_token(pad_token_id)
    if pad == "!":
        detail = "every ! in a question is split off and dropped, as the reference does"
        yield "padding token", "warn", f"{pad!r} (id {pad_token_id}): {detail}"
    else:
        yield "padding token", "ok", f"{pad!r} (id {pad_token_id})"
    side_setting = opened.raw_config.get("tokenizer_padding_side", "right")
    yield "padding side", "ok", f"{side_setting}; one question at a time is never padded"
    yield "projector", "ok", str(opened.raw_config.get("mm_projector_type"))
    yield _vision_weights(opened)


def _vision_weights(opened: Checkpoint) -> FindingRow:
    """Compare the checkpoint's own copy of the tower with the separate one."""
    if opened.tower_directory is None:
        return "vision weights", "ok", "from the checkpoint's own copy; no separate tower given"
    own = vision_tensors(opened.directory, in_tower=False)
    tower = vision_tensors(opened.tower_directory, in_tower=True)
    shared = own.keys() & tower.keys()
    if not shared:
        return "vision weights", "ok", "from the separate tower; the checkpoint has no copy"
    if all(torch.equal(own[name], tower[name]) for name in shared):
        return "vision weights", "ok", f"checkpoint and tower agree in all {len(shared)} tensors"
    rounded = all(
        torch.equal(own[name].to(torch.bfloat16), tower[name].to(torch.bfloat16)) for name in shared
    )
    what = "are the tower's rounded to bfloat16" if rounded else "differ from the tower's"
    return "vision weights", "ok" if rounded else "warn", f"the checkpoint's {what}"
