"""The selected frames of a batch's rows as image files, a folder for each row.

FRAMES/3f/talk_1-3fc88da1a4e02b77/r02_0041s250.jpg    row talk/1, second best frame, at 41.250 s
FRAMES/index.jsonl                                    a line for each image; written at the end

Every name follows from the row's answer, so that a run that was killed is completed by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from groundserve.batch.shards import scored_rows
from groundserve.errors import InvalidRequestError
from groundserve.frame_files import (
    DEFAULT_QUALITY,
    SUFFIXES,
    ImageFormat,
    clock_text,
    encode_image,
    ranked_frames,
    readable_name,
)
from groundserve.frames import iterate_frames
from groundserve.limits import Limits
from groundserve.results import QueryResult
from groundserve.runtime.deadline import Deadline
from groundserve.storage import PARTIAL_SUFFIX, Storage, open_storage

INDEX_NAME = "index.jsonl"


@dataclass(frozen=True, kw_only=True)
class FrameOutput:
    """Where the images of a batch go, and as what."""

    directory: str
    """A folder, or an fsspec URL, that all workers reach under this name."""
    image_format: ImageFormat = "jpeg"
    """"jpeg" or "png"."""
    quality: int | None = None
    """From 1 to 100, for JPEG alone; None: 95."""
    longest_side: int | None = None
    """Images whose longer side has more pixels are shrunk to it; None: as they are."""

    def __post_init__(self) -> None:
        formats = get_args(ImageFormat)
        if self.image_format not in formats:
            raise InvalidRequestError(
                f"the format of frames must be one of {', '.join(formats)}, "
                f"got {self.image_format!r}"
            )
        if self.quality is not None and self.image_format != "jpeg":
            raise InvalidRequestError("a quality goes with frames as jpeg; png is lossless")
        if not 1 <= self.jpeg_quality <= 100:
            raise InvalidRequestError(
                f"the quality of frames must be from 1 to 100, got {self.quality}"
            )
        if self.longest_side is not None and self.longest_side < 1:
            raise InvalidRequestError(
                f"the longest side of frames must be >= 1 pixel, got {self.longest_side}"
            )

    @property
    def jpeg_quality(self) -> int:
        """From 1 to 100."""
        return DEFAULT_QUALITY if self.quality is None else self.quality

    @property
    def description(self) -> str:
        """Say it in words: a run that is resumed must have the same."""
        quality = f" of quality {self.jpeg_quality}" if self.image_format == "jpeg" else ""
        side = "" if self.longest_side is None else f", longest side {self.longest_side}"
        return f"{self.image_format}{quality}{side} in {open_storage(self.directory).place}"


@dataclass(frozen=True, kw_only=True)
class FrameEntry:
    """One image: a line of the index."""

    file: str
    """Path from the folder that the index is in."""
    id: str
    video: str
    query: str
    rank: int
    """1 is the row's best frame by score; of equal scores the earlier is better."""
    frame_index: int
    """0-based ordinal in the video."""
    seconds: float
    score: float
    """In [0, 1]."""


def frame_entries(
    output: FrameOutput,
    row_id: str,
    video: str,
    query: QueryResult,
    frame_indices: NDArray[np.int64],
) -> list[FrameEntry]:
    """Return what a row selected, in time order, as lines of the index: so the images' places.

    `frame_indices` are all that were sampled.
    """
    frames = list(ranked_frames(query, frame_indices))
    rank_digits = len(str(len(frames)))
    last_seconds = max((seconds for _, _, seconds, _ in frames), default=0.0)
    second_digits = len(str(int(max(0.0, last_seconds))))
    start, suffix = f"{row_folder(row_id)}/r", SUFFIXES[output.image_format]
    return [
        FrameEntry(
            file=f"{start}{rank:0{rank_digits}d}_{clock_text(seconds, second_digits)}{suffix}",
            id=row_id,
            video=video,
            query=query.query,
            rank=rank,
            frame_index=ordinal,
            seconds=seconds,
            score=score,
        )
        for rank, ordinal, seconds, score in frames
    ]


def row_folder(row_id: str) -> str:
    """Return the folder of a row's images, a name that is safe for any id.

    A readable part of the id, then 16 characters of its SHA-256, which tell ids apart that look
    alike; below one of 256 folders by the first two, since a folder with a million is slow.
    """
    digest = hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{digest[:2]}/{readable_name(row_id) or 'row'}-{digest}"


def write_frames(
    output: FrameOutput, video: str, entries: Sequence[FrameEntry], *, timeout_seconds: float
) -> None:
    """Write images of one video, which is decoded once for them.

    Each image appears as a whole, or not at all. Those that a killed run left are replaced by the
    same ones.

    Raises:
        RunDirectoryError: The disk is full, or the folder can no longer be written to.
        GroundserveError: See `read_frames` for what is wrong with the video.
    """
    storage = open_storage(output.directory)
    for folder in {os.path.dirname(entry.file) for entry in entries}:
        for name in storage.names(folder):
            if name.endswith(PARTIAL_SUFFIX):  # what a killed process was writing
                storage.delete(f"{folder}/{name}")
    places: dict[int, list[str]] = {}
    for entry in entries:
        places.setdefault(entry.frame_index, []).append(entry.file)
    frame_indices = sorted(places)
    frames = iterate_frames(
        video,
        frame_indices,
        longest_side=output.longest_side,
        limits=Limits(),
        deadline=Deadline.after(timeout_seconds),
    )
    with closing(frames):
        for ordinal, frame in zip(frame_indices, frames, strict=True):
            image = encode_image(frame, output.image_format, quality=output.jpeg_quality)
            for name in places[ordinal]:
                storage.write(name, image)


def write_index(output: FrameOutput, run: Storage) -> str:
    """Write the index of all images of a run, file by file; return its place."""
    storage = open_storage(output.directory)
    with storage.writing(INDEX_NAME) as file:
        for entry in _entries_of_run(output, run):
            file.write(json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n")
    return f"{storage.place}/{INDEX_NAME}"


def _entries_of_run(output: FrameOutput, run: Storage) -> Iterator[FrameEntry]:
    names = ("frame_logits", "frame_scores", "selected_frames", "selected_seconds")
    columns = ("id", "video", "query", "frame_indices", *names)
    for row_id, video, query, *found in scored_rows(run, columns):
        if not all(one.is_valid for one in found):  # a family that answers in text has none
            continue
        indices, *scored = (one.values.to_numpy(zero_copy_only=False) for one in found)
        arrays = dict(zip(names, scored, strict=True))
        answer = QueryResult(query=query.as_py(), spans=[], **arrays)
        yield from frame_entries(output, row_id.as_py(), video.as_py(), answer, indices)
