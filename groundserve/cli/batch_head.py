"""Which head a corpus is asked of, and that no option of the other one is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError
from groundserve.options import Head
from groundserve.scoring.checkpoint_family import checkpoint_family

_OF_FRAMES = (
    *("sample_fps", "sampling", "seek", "top_k", "selector", "span_threshold", "span_gap_seconds"),
    *("frames", "frames_format", "frames_quality", "frames_side", "vision_tower"),
)
_OF_TEXT = (
    *("task", "raw", "control_tokens", "clip_seconds", "max_new_tokens"),
    *("family", "part"),
)


def find_head(
    ctx: typer.Context,
    checkpoint: str | None,
    engines: Path | None,
    *,
    family: str | None,
    parts: Mapping[str, Sequence[str]],
) -> Head:
    """Return the head of what is asked; of servers, which only say it later, `--task` tells.

    Raises:
        InvalidRequestError: An option of the other head is given, or there is no such checkpoint or
            engine directory.
        UnsupportedError, EngineMismatchError: As `groundserve.scoring.opener.check_answerer`.
    """
    if checkpoint is not None:
        head = checkpoint_family(checkpoint, family=family, parts=parts).head
    elif engines is not None:
        head = Manifest.load(engines).seam.head
    else:
        head = "text" if _is_given(ctx, "task") else "frames"
    others, kind = (_OF_TEXT, "scores") if head == "frames" else (_OF_FRAMES, "answers in text")
    for name in others:
        if _is_given(ctx, name):
            option = name.replace("_", "-")
            what = "an engine that " + ("answers in text" if head == "frames" else "scores frames")
            raise InvalidRequestError(f"--{option} is for {what}, and this one {kind}")
    return head


def _is_given(ctx: typer.Context, name: str) -> bool:
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
