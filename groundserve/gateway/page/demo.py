"""A video of handwritten digits that move, drawn when it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

_SEED = 7
_TYPES = ("semantic", "order")


def draw_demo() -> tuple[bytes, list[str]]:
    """Return a video's file, and questions about it."""
    from train.digits.dataset import write_grounding_set  # it needs the extra `train`

    with TemporaryDirectory() as folder:
        path = write_grounding_set(Path(folder), split="test", seed=_SEED, num_videos=1)
        records = json.loads(path.read_text("utf-8"))
        # The first of each type: what is asked about something absent comes last.
        by_type = {one["type"]: one for one in reversed(records)}
        queries = [by_type[kind]["question"].removeprefix("<image>\n") for kind in _TYPES]
        return (path.parent / records[0]["video"]).read_bytes(), queries
