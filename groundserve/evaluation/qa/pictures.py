"""Frames of one video as JPEGs, decoded once for all questions and arms that show them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.frames import iterate_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoIndex, VideoSource
from groundserve.runtime.deadline import Deadline


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How frames are sent."""

    longest_side: int | None = 768
    """Pixels that the longer side is shrunk to; None: as the video has it."""
    quality: int = 90
    """JPEG's, 1 to 95."""

    def __post_init__(self) -> None:
        if self.longest_side is not None and self.longest_side < 1:
            raise InvalidRequestError(f"longest_side must be >= 1, got {self.longest_side}")
        if not 1 <= self.quality <= 95:
            raise InvalidRequestError(f"quality must be 1 to 95, got {self.quality}")


def read_index(workers: MediaWorkers, path: Path) -> VideoIndex:
    """Return the frames that a video has; nothing is decoded."""
    limits = Limits()
    with (
        VideoSource.from_path(path, limits=limits) as source,
        workers.open(source, deadline=Deadline.after(limits.max_request_seconds)) as video,
    ):
        return video.index


def read_pictures(
    path: Path, frame_indices: Iterable[int], options: PictureOptions
) -> dict[int, str]:
    """Return `data:` URLs of JPEGs by ordinal."""
    ordinals = sorted(set(frame_indices))
    if not ordinals:
        return {}
    from PIL import Image

    limits = Limits()
    frames = iterate_frames(
        path,
        ordinals,
        longest_side=options.longest_side,
        limits=limits,
        # The ceiling is that of one request; these are the frames of many questions.
        deadline=Deadline.after(limits.max_request_seconds * len(ordinals)),
    )
    pictures = {}
    with closing(frames):
        for ordinal, frame in zip(ordinals, frames, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "JPEG", quality=options.quality)
            encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
            pictures[ordinal] = f"data:image/jpeg;base64,{encoded}"
    return pictures
