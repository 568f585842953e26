"""How the forks of lmms-eval read a file of frames: their rules, written anew.

Facts of NVlabs/VideoITG fab8b54: `lmms_eval/models/internvl2.py::load_video` (that of
`lmms_eval/models/internvl3_5.py` is the same in this), `lmms_eval/models/qwen3_vl.py`,
`lmms_eval/models/eagle2_5.py`, `lmms_eval/models/llava_onevision.py`,
`lmms_eval/models/qwen2_vl.py`.
"""

from __future__ import annotations

import json
from pathlib import Path


def read_indices(path: Path) -> dict[int, list[int]]:
    """Read a file as all of them do: never an error, and the first line of a number counts."""
    found: dict[int, list[int]] = {}
    if not path.is_file():
        return found
    for line in path.read_text("utf-8", errors="ignore").split("\n"):
        try:
            fields = json.loads(line)
            if not isinstance(fields["index"], list):
                continue
            number, frames = int(fields["doc_id"]), [int(it) for it in fields["index"]]
        except (ValueError, KeyError, TypeError):
            continue
        found.setdefault(number, frames)
    return found
