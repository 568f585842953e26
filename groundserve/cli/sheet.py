"""The contact sheet of a local video: decode the selected frames once more, at their own shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.results import ScoreResult
from groundserve.visuals import save_contact_sheet

_THUMBNAIL_PIXELS = 320


def draw_contact_sheet(path: Path, video: Path, result: ScoreResult) -> None:
    """Write the PNG of the selected frames of every question.

    Raises:
        InvalidRequestError: The video cannot be read again, or the PNG not be written.
    """
    limits = Limits()
    deadline = Deadline.after(limits.max_request_seconds)
    frame_indices = np.unique(np.concatenate([q.selected_frames for q in result.queries]))
    with (
        MediaWorkers(limits=limits) as workers,
        VideoSource.from_path(video, limits=limits) as source,
        workers.open(source, deadline=deadline) as opened,
    ):
        # One at a time: full-size frames of a large video would not fit together.
        pictures = [
            _thumbnail(opened.decode(opened.cut(frame_indices[i : i + 1]))[0])
            for i in range(len(frame_indices))
        ]
    save_contact_sheet(path, result, pictures, frame_indices)


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    return np.asarray(image)
