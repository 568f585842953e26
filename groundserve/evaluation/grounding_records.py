"""VideoITG-40K records as evaluation needs them: which sampled frames answer which question."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from groundserve.data_record import parse_record
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.line_file import read_lines

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
        """Return bool (T,); None where the video gave too few frames for the record."""
        # Not even in part: the ordinals count in a longer list of frames than this one.
        if max(self.positive_frames, default=0) >= num_frames:
            return None
        labels = np.zeros(num_frames, np.bool_)
        labels[list(self.positive_frames)] = True
        return labels


def read_grounding_records(path: str | PathLike[str]) -> list[GroundingRecord]:
    """Read a list of records, as JSON or JSON Lines; here a malformed one stops the reading."""
    records = []
    for number, (_, value) in enumerate(read_lines(path)):
        try:
            record = parse_record(value, name=f"#{number}", is_grounding=True)
            kind = value.get("type", UNTYPED)
            if not isinstance(kind, str) or not kind:
                raise InvalidRequestError("type must be text")
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{path}, record {number}: {error}") from error
        assert record.media is not None
        assert record.positive_frames is not None
        records.append(
            GroundingRecord(
                number=number,
                video=record.media.path,
                question=record.messages[0].text,
                positive_frames=record.positive_frames,
                type=kind,
            )
        )
    if not records:
        raise InvalidRequestError(f"{path} holds no records")
    return records
