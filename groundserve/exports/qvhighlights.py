"""Predictions in the JSONL format of QVHighlights, as `evaluation.qvhighlights_files` reads it.

Shape letters: T sampled frames, C clips of two seconds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.evaluation.qvhighlights_files import CLIP_SECONDS
from groundserve.exports.rows import ScoredFrames
from groundserve.records.record import DocId
from groundserve.spans import Span, find_spans


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows predicted for a question."""

    spans: list[Span]
    """Best first, at least one; of equal scores the earlier first."""
    is_below_threshold: bool
    """Whether no span reached the threshold, and the best frames' stretch stands for them."""


def qvhighlights_line(
    query_id: DocId, *, video: str, query: str, scored: ScoredFrames, windows: Windows
) -> str:
    """Return a line without its newline; non-ASCII text is kept.

    Args:
        query_id: `qid`, the number of the query in the benchmark.
        video: Its name without folder and ending becomes `vid`, as the benchmark's are named.
        query: The question.
        scored: Frames behind `pred_saliency_scores`.
        windows: `pred_relevant_windows`.
    """
    fields = {
        "qid": query_id,
        "query": query,
        "vid": Path(video).stem,
        "pred_relevant_windows": [list(span) for span in windows.spans],
        "pred_saliency_scores": clip_scores(scored).tolist(),
    }
    return json.dumps(fields, ensure_ascii=False)


def rank_windows(scored: ScoredFrames) -> Windows:
    """Return a question's spans, best first, and never none.

    The benchmark's evaluator takes the first window of each query, and raises where a list is empty
    (jayleicn/moment_detr b7e553a, `standalone_eval/eval.py::compute_mr_r1`); its mAP leaves such
    queries out of the mean. So where no frame reaches the threshold, the stretches of the frames
    with the best score stand in.
    """
    spans = scored.spans or find_spans(
        scored.frame_scores.astype(np.float32),
        scored.pts_seconds,
        duration_seconds=scored.duration_seconds,
        span_threshold=float(scored.frame_scores.astype(np.float32).max()),
    )
    ordered = sorted(spans, key=lambda span: -span.score)  # stable: in time order where equal
    return Windows(spans=ordered, is_below_threshold=not scored.spans)


def clip_scores(scored: ScoredFrames) -> NDArray[np.float64]:
    """Return the saliency of each clip of two seconds, from the start to the end of the video.

    A clip has the best score of the frames shown in it; where none of them was sampled, that of the
    frame before, which stands for the time until the next.

    Returns:
        float64 (C,), C >= 1. The last clip may be cut short by the end; an evaluator that counts
        whole clips ignores it.
    """
    pts = scored.pts_seconds
    end = max(scored.duration_seconds, float(pts[-1]))
    num_clips = max(1, math.ceil(end / CLIP_SECONDS))
    starts = np.arange(num_clips) * CLIP_SECONDS
    # (C,): the frames of clip i are first[i] .. past[i] - 1.
    first = np.searchsorted(pts, starts, side="left")
    past = np.append(first[1:], len(pts))
    scores = scored.frame_scores
    return np.array(
        [
            scores[a:b].max() if a < b else scores[max(0, a - 1)]
            for a, b in zip(first.tolist(), past.tolist(), strict=True)
        ]
    )
