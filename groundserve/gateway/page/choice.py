"""Frames and spans chosen anew from scores, by the rules of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from groundserve.options import ScoreOptions, Selector
from groundserve.results import ScoreResult, build_score_result
from groundserve.selection import select_frames
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD


@dataclass(kw_only=True)
class Choice:
    """How frames and spans are chosen from scores."""

    top_k: int
    selector: Selector
    span_threshold: float
    span_gap_seconds: float

    @classmethod
    def of(cls, asked: dict[str, Any]) -> Choice:
        """Return what a request asked for."""
        defaults = ScoreOptions()
        return cls(
            top_k=asked.get("top_k", defaults.top_k),
            selector=asked.get("selector", defaults.selector),
            span_threshold=asked.get("span_threshold", DEFAULT_SPAN_THRESHOLD),
            span_gap_seconds=asked.get("span_gap_seconds", DEFAULT_SPAN_GAP_SECONDS),
        )

    def applied(self, result: ScoreResult) -> ScoreResult:
        """Choose anew, by the rules of the server."""
        logits = np.stack([query.frame_logits for query in result.queries])
        return build_score_result(
            [query.query for query in result.queries],
            video=result.video,
            info=result.info,
            frame_indices=result.frame_indices,
            pts_seconds=result.pts_seconds,
            frame_logits=logits,
            frame_scores=np.stack([query.frame_scores for query in result.queries]),
            selected_frames=np.stack(
                [
                    select_frames(
                        one, result.frame_indices, num_selected=self.top_k, selector=self.selector
                    )
                    for one in logits
                ]
            ),
            span_threshold=self.span_threshold,
            span_gap_seconds=self.span_gap_seconds,
            request_id=result.request_id,
        )
