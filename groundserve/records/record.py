"""One scored question as a line of JSON: the reference's ranking, or the frames selected of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.results import QueryResult, ScoreResult
from groundserve.selection import best_first
from groundserve.strict_json import shown

DocId: TypeAlias = int | str
"""Number of a question in its benchmark, or text for a question of no benchmark."""

_NAME_LENGTH = 40
_HASH_LENGTH = 12
"""48 bits: among a million questions on videos of one name, two meet with a chance of 1 in 560."""


class _Line:
    def to_json_line(self) -> str:
        """Return one line without its newline; non-ASCII text is kept."""
        return json.dumps(vars(self), ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class FrameRecord(_Line):
    """One scored question, as downstream harnesses read it; fields are in the reference's order.

    Readers keep the first line of each `doc_id` and take the first K entries of `index`, so the
    order is by score, never by time.

    Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/videoitg.py`.
    """

    index: list[int]
    """All T sampled ordinals, best first."""
    logits: list[float]
    """Their scores after the sigmoid (the name is the reference's), rounded to two digits."""
    num_frames: int = 1
    """Number of videos in the request (the name is the reference's): always 1."""
    contexts: str
    """The question."""
    video_path: str
    """The video as the caller named it."""
    doc_id: DocId
    """Number of the question in its benchmark split; see `make_doc_id` where it has none."""


@dataclass(frozen=True, kw_only=True)
class SelectionRecord(_Line):
    """The frames selected for one question, as the reference's readers document their input.

    Source: NVlabs/VideoITG fab8b54, `README.md`, the frame indices file.
    """

    doc_id: int
    """Number of the question in its benchmark split."""
    index: list[int]
    """The K' selected ordinals, increasing."""


Record: TypeAlias = FrameRecord | SelectionRecord


def make_record(result: ScoreResult, query: QueryResult, *, doc_id: DocId) -> FrameRecord:
    """Turn one answer into a record; of equal logits the earlier frame comes first."""
    return rank_frames(
        query.frame_logits,
        query.frame_scores,
        result.frame_indices,
        query=query.query,
        video=result.video,
        doc_id=doc_id,
    )


def rank_frames(
    frame_logits: NDArray[np.float32],
    frame_scores: NDArray[np.float32],
    frame_indices: NDArray[np.int64],
    *,
    query: str,
    video: str,
    doc_id: DocId,
) -> FrameRecord:
    """Make a record of an answer's arrays, each (T,), as `make_record` does."""
    order = best_first(frame_logits)
    return FrameRecord(
        index=frame_indices[order].tolist(),
        logits=[round(float(score), 2) for score in frame_scores[order]],
        contexts=query,
        video_path=video,
        doc_id=doc_id if isinstance(doc_id, str) else _number(doc_id, "a whole number or text"),
    )


def make_selection_record(query: QueryResult, *, doc_id: DocId) -> SelectionRecord:
    """Keep of one answer the frames that its `top_k` and selector chose; `doc_id` is a number.

    Readers of such a file match numbers; where they find none they sample uniformly, most of them
    without a word.
    """
    number = _number(doc_id, "the question's number in its benchmark where frames are selected")
    return SelectionRecord(doc_id=number, index=query.selected_frames.tolist())


def make_doc_id(video: str | PathLike[str], query: str) -> str:
    """Return the id of a question that no benchmark numbers, such as "talk-0e1dd25bcaa6".

    It says what is asked, not what answered, so that records of two engines can be compared: the
    name of `video_path`, and 12 hexadecimal digits of the SHA-256 of `video_path`, a zero byte and
    `contexts` in UTF-8. Never the text of a number, which readers would take for one. The same file
    by another path is another video.
    """
    path = os.fspath(video)
    # A name on the disk need not be UTF-8; its lone surrogates are hashed as they stand.
    identity = f"{path}\0{query}".encode("utf-8", "surrogatepass")
    name = re.sub(r"[^\w.]+", "-", Path(path).stem)[:_NAME_LENGTH].strip("-")
    return f"{name or 'video'}-{hashlib.sha256(identity).hexdigest()[:_HASH_LENGTH]}"


def _number(doc_id: object, rule: str) -> int:
    if isinstance(doc_id, bool) or not isinstance(doc_id, Integral):
        raise InvalidRequestError(f"doc_id must be {rule}, got {shown(doc_id)}")
    return int(doc_id)  # NumPy's, of a data set's column, is no JSON
