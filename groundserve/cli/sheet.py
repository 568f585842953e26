"""The contact sheet of a local video: decode the selected frames once more, at their own shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from groundserve.cli.visuals import save_contact_sheet
from groundserve.frames import iterate_frames
from groundserve.limits import Limits
from groundserve.results import ScoreResult
from groundserve.runtime.deadline import Deadline

_THUMBNAIL_PIXELS = 320


def draw_contact_sheet(path: Path, video: Path, result: ScoreResult) -> None:
    """Write the PNG of the selected frames of every question.

    Raises:
        InvalidRequestError: The video cannot be read again, or the PNG not be written.
    """
    limits = Limits()
    frame_indices = np.unique(np.concatenate([q.selected_frames for q in result.queries]))
    pictures = iterate_frames(
        video,
        frame_indices,
        longest_side=_THUMBNAIL_PIXELS,
        limits=limits,
        deadline=Deadline.after(limits.max_request_seconds),
    )
    save_contact_sheet(path, result, list(pictures), frame_indices)
