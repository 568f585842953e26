"""VideoITG-40K records as evaluation needs them: which sampled frames answer which question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.data_record import parse_record
from groundserve.errors import InvalidRequestError

UNTYPED = "untyped"
"""Type of a record that names none, as the published file does throughout."""


@dataclass(frozen=True, kw_only=True)
class GroundingRecord:
    """One question about one video."""

    number: int
    """Place in the file, from 0."""
    video: str
    """Path below the media root."""
    question: str
    """Without the image placeholder."""
    positive_frames: tuple[int, ...]
    """`frame_num`: ordinals of the relevant frames in the list that rule A samples at 1 frame a
    second; empty where the video does not show what is asked for."""
    type: str
    """Kind of question, a key of our own."""

    def labels(self, num_frames: int) -> NDArray[np.bool_] | None:
        """Return bool (T,); None where the video gave too few frames for the record.

        Args:
            num_frames: T, frames that rule A took of the video.
        """
        # Not even in part: the ordinals count in a longer list of frames than this one.
        if max(self.positive_frames, default=0) >= num_frames:
            return None
        labels = np.zeros(num_frames, np.bool_)
        labels[list(self.positive_frames)] = True
        return labels


def read_grounding_records(path: str | PathLike[str]) -> list[GroundingRecord]:
    """Read a JSON list of records; unlike in training, a malformed one stops the reading.

    Raises:
        InvalidRequestError: The file cannot be read, holds no records, or one is malformed.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    try:
        values: Any = json.loads(data)
    # ValueError: also bytes that are no UTF-8. RecursionError: nested too deep.
    except (ValueError, RecursionError) as error:
        if _is_json_lines(data):
            raise InvalidRequestError(
                f"{path} must be one JSON list of records, got JSON Lines (an object a line); "
                f"make a list of them with: jq -s . {path}"
            ) from error
        raise InvalidRequestError(f"{path} must be JSON") from error
    if not isinstance(values, list) or not values:
        raise InvalidRequestError(f"{path} must be a JSON list of at least one record")
    records = []
    for number, value in enumerate(values):
        try:
            records.append(_parse(value, number))
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{path}, record {number}: {error}") from error
    return records


def _is_json_lines(data: bytes) -> bool:
    """Whether the first line, of several, is an object of its own."""
    try:
        return isinstance(json.loads(data.lstrip().partition(b"\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _parse(value: Any, number: int) -> GroundingRecord:
    record = parse_record(value, name=f"#{number}", is_grounding=True)
    # What that stage guarantees.
    assert record.media is not None
    assert record.positive_frames is not None
    # `parse_record` does not know this key, which only evaluation reads.
    kind = value.get("type", UNTYPED)
    if not isinstance(kind, str) or not kind:
        raise InvalidRequestError("type must be text")
    return GroundingRecord(
        number=number,
        video=record.media.path,
        question=record.messages[0].text,
        positive_frames=record.positive_frames,
        type=kind,
    )
