"""What is found for one question about a video."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from groundserve.annotate.calls import State
from groundserve.data_record import CLIP_SECONDS
from groundserve.spans import find_spans


@dataclass(kw_only=True)
class Annotation:
    """A question with its clips and frames; ordinals count frames at one a second, from 0."""

    question: str
    answer: str
    state: State = "success"
    dropped: str = ""
    """Why it is no training data; "" where it may be."""
    type: str = ""
    """semantic, motion, both or non_clue."""
    existence: bool = False
    """Whether it asks for something that is not there."""
    phrase: str = ""
    captions: list[str] = field(default_factory=list)
    """Of each clip, if clips were looked at."""
    explanation: str = ""
    """Why these clips."""
    clips: list[int] = field(default_factory=list)
    thinned: list[int] = field(default_factory=list)
    """Frames that thinning left out, of which nothing is known."""
    candidates: list[int] = field(default_factory=list)
    """Frames that the last stage judged."""
    frames: list[int] = field(default_factory=list)
    """Those of them that help: the labels."""
    reasons: list[str] = field(default_factory=list)
    """Why, one for each of `frames`."""
    spans: list[tuple[float, float]] = field(default_factory=list)
    """Start and end in seconds of the stretches that the frames stand for."""
    agreement: float | None = None
    """With the second grounder, in [0, 1]; None where there is none."""
    thumbnails: list[str] = field(default_factory=list)
    """Small pictures of the first of `frames`, as data URLs."""

    def why_dropped(self, min_agreement: float) -> str:
        """Return why it is not kept; "" where it is."""
        if not self.dropped and self.agreement is not None and self.agreement < min_agreement:
            return f"agreement {self.agreement:.2f} is below {min_agreement:g}"
        return self.dropped


def clip_frames(clips: Collection[int], num_frames: int) -> list[int]:
    """Return the ordinals of the frames of clips, of which the last may be cut short."""
    return [frame for frame in range(num_frames) if frame // CLIP_SECONDS in clips]


def frame_agreement(annotation: Annotation, others: Collection[int], num_frames: int) -> float:
    """Return the intersection over union of two grounders' frames; 1 where both find none.

    What thinning left out is not compared: nobody looked at it.
    """
    compared = set(range(num_frames)) - set(annotation.thinned)
    ours, theirs = set(annotation.frames) & compared, set(others) & compared
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


def frame_spans(
    annotation: Annotation, pts_seconds: NDArray[np.float64], duration_seconds: float
) -> list[tuple[float, float]]:
    """Return the stretches that the frames stand for.

    Frames that thinning left out between two that were chosen one after the other belong to them,
    as they look alike.
    """
    scores = np.zeros(len(pts_seconds), np.float32)
    scores[annotation.frames] = 1
    for frame in annotation.frames:
        behind = frame + 1
        while behind in annotation.thinned:
            behind += 1
        if behind in annotation.frames:
            scores[frame:behind] = 1
    found = find_spans(scores, pts_seconds, duration_seconds=duration_seconds)
    return [(span.start_seconds, span.end_seconds) for span in found]
