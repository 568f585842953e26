"""How the forks of lmms-eval read a file of frames: their rules, written anew.

Facts of NVlabs/VideoITG fab8b54: `lmms_eval/models/internvl2.py::load_video` (that of
`lmms_eval/models/internvl3_5.py` is the same in this), `lmms_eval/models/qwen3_vl.py`,
`lmms_eval/models/eagle2_5.py`, `lmms_eval/models/llava_onevision.py`,
`lmms_eval/models/qwen2_vl.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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


@dataclass(frozen=True)
class Wrapper:
    """One wrapper: how many frames it takes unless told, and which of those it is given."""

    name: str
    default_k: int
    take: Callable[[list[int], int, int], list[int]]
    """(index, K, frames in the video) -> the frames shown; empty where it falls back."""
    uniform: Callable[[int, int], list[int]]
    """(K, frames in the video) -> the frames shown without the file."""

    def shown(self, path: Path, doc_id: int, *, k: int, num_source_frames: int) -> list[int]:
        """Return the frames that the model sees of a question."""
        index = read_indices(path).get(doc_id)
        frames = self.take(index, k, num_source_frames) if index else []
        return frames or self.uniform(k, num_source_frames)


def _walk(index: list[int], k: int, num_source_frames: int) -> list[int]:
    """Go along the list, past what is not in the video, until there are K."""
    return sorted([it for it in index if 0 <= it < num_source_frames][:k])


def _even(frames: list[int]) -> list[int]:
    return frames + frames[-1:] if len(frames) % 2 else frames


def _linspace(k: int, num_source_frames: int) -> list[int]:
    return np.linspace(0, num_source_frames - 1, k, dtype=int).tolist()


def _linspace_at_most_all(k: int, num_source_frames: int) -> list[int]:
    return _linspace(min(k, num_source_frames), num_source_frames)


def _segment_middles(k: int, num_source_frames: int) -> list[int]:
    segment = (num_source_frames - 1) / k
    return [int(segment / 2 + np.round(segment * i)) for i in range(k)]


WRAPPERS = {
    wrapper.name: wrapper
    for wrapper in (
        # No look at the range, nor at repeated ones.
        Wrapper("internvl", 32, lambda index, k, n: sorted(index[:k]), _segment_middles),
        # Cut first, and only then what is not in the video left out.
        Wrapper(
            "qwen3_vl",
            32,
            lambda index, k, n: sorted(it for it in index[:k] if 0 <= it < n),
            _linspace_at_most_all,
        ),
        Wrapper("eagle2_5", 64, _walk, _linspace_at_most_all),
        Wrapper(
            "llava_onevision", 32, lambda index, k, n: sorted(set(_walk(index, k, n))), _linspace
        ),
        Wrapper(
            "qwen2_vl",
            8,
            lambda index, k, n: _even(_walk(index, k, n)),
            lambda k, n: _even(_linspace_at_most_all(k, n)),
        ),
    )
}
