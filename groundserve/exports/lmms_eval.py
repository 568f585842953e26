"""Lines that the forks of lmms-eval read: the number of a question, and the frames to show.

Their readers keep the first line of a `doc_id`, take the first K entries of `index`, and sort them;
where they find no line they sample uniformly, most of them without a word.

Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/internvl2.py`,
`lmms_eval/models/internvl3_5.py`, `lmms_eval/models/qwen3_vl.py`, `lmms_eval/models/eagle2_5.py`,
`lmms_eval/models/llava_onevision.py`, `lmms_eval/models/qwen2_vl.py`.
"""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.exports.rows import ScoredFrames
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.options import DEFAULT_NUM_FRAMES
from groundserve.records.record import DocId

Order = Literal["score", "time"]

BENCHMARK_SAMPLING = f"rule B at 1 frame a second, at most {DEFAULT_NUM_FRAMES} frames"
"""Of the published numbers; `score` and `batch` sample so unless told otherwise."""


def lmms_eval_line(doc_id: DocId, frames: NDArray[np.int64]) -> str:
    """Return a line without its newline.

    Args:
        doc_id: Number of the question in its benchmark split.
        frames: int64, ordinals: all T best first, or exactly those to be shown, increasing.
    """
    return json.dumps({"doc_id": doc_id, "index": frames.tolist()})


def is_benchmark_sampled(scored: ScoredFrames) -> bool:
    """Tell whether the frames that were scored are those that the published numbers rest on.

    It looks at the frames themselves, so it holds for whatever was asked: a short video gives fewer
    than 512, and "seek": "keyframe" gives others.
    """
    try:
        expected = sample_frames(
            scored.num_source_frames,
            scored.fps,
            sampling="eval",
            sample_fps=1.0,
            num_frames=DEFAULT_NUM_FRAMES,
        )
    except InvalidRequestError:  # fewer than half a frame a second: the reference raises too
        return False
    return np.array_equal(scored.frame_indices, expected)
