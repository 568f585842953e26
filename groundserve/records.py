"""The reference's JSONL record, in and out, and how two files of them agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.results import QueryResult, ScoreResult
from groundserve.selection import best_first


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """One scored question, as downstream harnesses read it.

    Readers keep the first line of each `doc_id` and take the first K entries of `index`, so the
    order is by score, never by time.

    Source: NVlabs/VideoITG fab8b54, `lmms_eval/models/videoitg.py`.
    """

    index: list[int]
    """All T sampled ordinals, best first."""
    logits: list[float]
    """Their scores after the sigmoid (the name is the reference's), rounded to two digits."""
    contexts: str
    """The question as scored."""
    video_path: str
    """The video as the caller named it."""
    doc_id: int
    """Number of the question in its benchmark split."""
    num_frames: int = 1
    """Number of videos in the request (the name is the reference's): always 1."""

    def to_json_line(self) -> str:
        """Return one line without its newline; non-ASCII text is kept."""
        fields = ("index", "logits", "num_frames", "contexts", "video_path", "doc_id")
        return json.dumps({name: getattr(self, name) for name in fields}, ensure_ascii=False)


def make_record(result: ScoreResult, query: QueryResult, *, doc_id: int) -> FrameRecord:
    """Turn one answer into a record; of equal logits the earlier frame comes first."""
    order = best_first(query.frame_logits)
    return FrameRecord(
        index=result.frame_indices[order].tolist(),
        logits=[round(float(score), 2) for score in query.frame_scores[order]],
        contexts=query.query,
        video_path=result.video,
        doc_id=doc_id,
    )


def append_records(path: str | PathLike[str], records: Sequence[FrameRecord]) -> None:
    """Append lines to a file, each in one write.

    Raises:
        InvalidRequestError: The file cannot be written.
    """
    try:
        # A video's name need not be UTF-8; escaped, it is JSON still.
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            for record in records:
                file.write(record.to_json_line() + "\n")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error


def read_records(path: str | PathLike[str]) -> dict[int | str, list[int]]:
    """Return `doc_id` -> ordinals, best first; the first line of a `doc_id` counts.

    Only `doc_id` and `index` are needed, so files of other selectors can be read too.

    Raises:
        InvalidRequestError: The file cannot be read, or a line is not such a record. (The
            reference's readers skip a malformed line and fall back to uniform frames.)
    """
    records: dict[int | str, list[int]] = {}
    for number, line in _lines(path):
        try:
            value: Any = json.loads(line)
            doc_id, index = value["doc_id"], [int(i) for i in value["index"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequestError(
                f"{path}, line {number}: not a record with doc_id and index"
            ) from error
        if not isinstance(doc_id, int | str):
            raise InvalidRequestError(f"{path}, line {number}: doc_id must be a number or text")
        records.setdefault(doc_id, index)
    return records


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two selectors agree over the questions both scored."""

    num_questions: int
    """Questions in both files."""
    num_only_in_first: int
    """Questions missing from the second file."""
    num_only_in_second: int
    """Questions missing from the first file."""
    overlap_at_k: float
    """Mean share of the first K frames that are the same, in [0, 1]."""
    kendall_tau: float | None
    """Mean rank correlation of the frames both ranked; None where no pair of frames is shared."""


def compare_records(
    first: dict[int | str, list[int]], second: dict[int | str, list[int]], *, top_k: int
) -> Agreement:
    """Compare two files of records.

    Args:
        first: `doc_id` -> ordinals, best first.
        second: The same.
        top_k: K >= 1; where a question has fewer frames, all of them are compared.

    Raises:
        InvalidRequestError: K < 1, or no question is in both files.
    """
    if top_k < 1:
        raise InvalidRequestError(f"top_k must be >= 1, got {top_k}")
    shared = [doc_id for doc_id in first if doc_id in second]
    if not shared:
        raise InvalidRequestError("the two files share no doc_id")
    overlaps, taus = [], []
    for doc_id in shared:
        a, b = first[doc_id], second[doc_id]
        size = max(1, min(top_k, max(len(a), len(b))))
        overlaps.append(len(set(a[:top_k]) & set(b[:top_k])) / size)
        tau = kendall_tau(a, b)
        if tau is not None:
            taus.append(tau)
    return Agreement(
        num_questions=len(shared),
        num_only_in_first=len(first) - len(shared),
        num_only_in_second=len(second) - len(shared),
        overlap_at_k=float(np.mean(overlaps)),
        kendall_tau=float(np.mean(taus)) if taus else None,
    )


def kendall_tau(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Return the rank correlation of two orders over the items both hold, in [-1, 1].

    +1: same order, -1: reversed. None where fewer than two items are shared. A rank has no ties,
    so this is tau-a.
    """
    place = {item: rank for rank, item in enumerate(second)}
    ranks: NDArray[np.int64] = np.array([place[item] for item in first if item in place])
    n = len(ranks)
    if n < 2:
        return None
    later_minus_earlier = np.sign(ranks[None, :] - ranks[:, None])
    concordant_minus_discordant = int(np.triu(later_minus_earlier, 1).sum())
    return concordant_minus_discordant / (n * (n - 1) / 2)


def _lines(path: str | PathLike[str]) -> Iterator[tuple[int, str]]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"cannot read {path} as UTF-8 text") from error
