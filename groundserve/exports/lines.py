"""The lines of an export as they are put together, and the counts of what they leave out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.exports.formats import (
    BENCHMARK_SAMPLING,
    check_llava,
    is_benchmark_sampled,
    llava_line,
    lmms_eval_line,
    openai_line,
    qvhighlights_line,
)
from groundserve.exports.options import ExportFormat, ExportOptions
from groundserve.exports.pictures import Picture, Pictures
from groundserve.exports.rows import ExportRow, choose_frames
from groundserve.exports.sources import Source
from groundserve.records.record import DocId, make_doc_id
from groundserve.strict_json import shown

_ROWS_TOGETHER = 8
"""Questions on one video whose frames are decoded in one go: at K = 32 up to 256 JPEGs."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and what was not."""

    num_rows: int
    failures: Mapping[str, int]
    """Questions without an answer, by kind of error; they are left out."""
    is_unfinished: bool = False
    """Whether the batch has not come to its end, so that questions may be missing."""
    num_otherwise_sampled: int = 0
    """lmms-eval: of `num_rows`, those whose frames are not the benchmarks'; records do not say."""
    num_gaps: int = 0
    """lmms-eval: numbers from 0 to the largest that no line has."""
    most_frames: int = 0
    """lmms-eval in time order: frames of the longest line; a reader must take as many."""
    num_unused_ids: int = 0
    """Entries of `doc_ids` that no question had."""
    num_below_threshold: int = 0
    """qvhighlights: questions without a span, whose best frames stand for one."""


class Lines:
    """Turns the rows of a source into lines that are read by id: numbers first, then texts.

    So the same rows give the same bytes, in whatever order a job has left them. Lines wait in a
    file, since they may hold pictures; of each no more than its id and its place is in memory.
    """

    def __init__(
        self, spool: IO[bytes], source: Source, export_format: ExportFormat, options: ExportOptions
    ) -> None:
        """Read nothing yet; the spool is a file, open to read and write."""
        self._spool = spool
        self._source = source
        self._format = export_format
        self._options = options
        self._kept: dict[DocId, tuple[str, int, int]] = {}
        """Where a line's row stands, where the line begins, and its bytes."""
        self._failures: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        """By field of `Exported`."""

    def add_all(self, pictures: Pictures | None = None) -> None:
        """Add the lines of all rows; neighbours on one video share its pictures."""
        if pictures is not None:
            self._check_pictured(pictures)
        is_ranking = self._format == "lmms-eval" and self._options.order == "score"
        top_k, selector = self._options.top_k, self._options.selector
        for group in _by_video(self._answered()):
            choices = [
                row.ranking if is_ranking else choose_frames(row, top_k=top_k, selector=selector)
                for row in group
            ]
            found: Mapping[int, Picture] = {}
            if pictures is not None:
                found = pictures.of_video(group[0].video, np.unique(np.concatenate(choices)))
            for row, frames in zip(group, choices, strict=True):
                row_id = self._id_of(row)
                if row_id in self._kept:
                    raise _repeated_id(row_id, row.place, self._kept[row_id][0])
                line = self._line(row, row_id, frames, found)
                # A video's name need not be UTF-8; escaped, it is JSON still.
                raw = line.encode("utf-8", "backslashreplace")
                self._kept[row_id] = (row.place, self._spool.tell(), len(raw))
                self._spool.write(raw)

    def summary(self) -> Exported:
        """Say what was collected; it is an error where there is nothing to write."""
        if not self._kept:
            failed = self._failures.total()
            why = f"all of its {failed} rows failed" if failed else "it holds no rows"
            raise InvalidRequestError(f"nothing to export from {self._source.path}: {why}")
        numbers = [it for it in self._kept if isinstance(it, int)]
        doc_ids = self._options.doc_ids
        return Exported(
            num_rows=len(self._kept),
            failures=dict(sorted(self._failures.items())),
            is_unfinished=self._source.is_unfinished,
            num_otherwise_sampled=self._counts["num_otherwise_sampled"],
            num_gaps=max(numbers) + 1 - len(numbers) if self._format == "lmms-eval" else 0,
            most_frames=self._counts["most_frames"],
            num_unused_ids=len(doc_ids) - len(self._kept) if doc_ids is not None else 0,
            num_below_threshold=self._counts["num_below_threshold"],
        )

    def __iter__(self) -> Iterator[bytes]:
        for line_id in sorted(self._kept, key=lambda it: (isinstance(it, str), it)):
            _, start, size = self._kept[line_id]
            self._spool.seek(start)
            yield self._spool.read(size)

    def _line(
        self,
        row: ExportRow,
        row_id: DocId,
        frames: NDArray[np.int64],
        pictures: Mapping[int, Picture],
    ) -> str:
        if self._format == "lmms-eval":
            self._check_sampling(row)
            if self._options.order == "time":
                self._counts["most_frames"] = max(self._counts["most_frames"], len(frames))
            return lmms_eval_line(row_id, frames)
        shown_frames = [(it, pictures[it]) for it in frames.tolist() if pictures]
        if self._format == "llava":
            return llava_line(row_id, row, [picture for _, picture in shown_frames])
        assert row.scored is not None, "records were refused"
        if self._format == "qvhighlights":
            self._counts["num_below_threshold"] += not row.scored.spans
            return qvhighlights_line(row_id, row, row.scored)
        form = self._options.image_form
        return openai_line(row_id, row, row.scored, shown_frames, image_form=form)

    def _answered(self) -> Iterator[ExportRow]:
        for row in self._source.rows():
            if not isinstance(row, str):
                yield row
                continue
            self._failures[row] += 1
            if self._source.kind == "answers" and self._options.doc_id is not None:
                # How many questions the failed call asked nobody knows.
                raise InvalidRequestError(
                    "an answer of the source is an error, so the numbers of the questions after "
                    "it are not known; export the answers before and after it on their own"
                )

    def _check_pictured(self, pictures: Pictures) -> None:
        """Refuse rows before the first video is decoded, which may be hours before the last."""
        places: dict[DocId, str] = {}
        for row in self._source.rows():
            if isinstance(row, str):
                continue
            row_id = self._id_of(row)
            if row_id in places:
                raise _repeated_id(row_id, row.place, places[row_id])
            places[row_id] = row.place
            if self._format == "llava":
                check_llava(row)
            pictures.require(row.video, place=row.place)

    def _id_of(self, row: ExportRow) -> DocId:
        """Return what readers find the row's line by: its own id, or its number in a benchmark."""
        by_id, must_be_number = self._options.doc_ids, self._format == "lmms-eval"
        if self._options.doc_id is not None:
            if row.id is not None:
                raise InvalidRequestError(
                    f"{row.place}: the row has the id {shown(row.id)}; --doc-id is for answers of "
                    "score --json, which have none"
                )
            return self._options.doc_id + len(self._kept)
        if row.id is None:
            if must_be_number or by_id is not None:
                raise InvalidRequestError(
                    f"{row.place}: answers of score --json have no ids; give the number of the "
                    "first question in its benchmark (--doc-id)"
                )
            return make_doc_id(row.video, row.query)
        if by_id is not None:
            if row.id not in by_id:
                raise InvalidRequestError(
                    f"{row.place}: --doc-ids has no number for {shown(row.id)}"
                )
            return by_id[row.id]
        if must_be_number and (isinstance(row.id, str) or row.id < 0):
            raise InvalidRequestError(
                f"{row.place}: the id must be the question's number in its benchmark, a whole "
                f"number >= 0, got {shown(row.id)}: readers would not find its line, and sample "
                "uniformly; give a file of ids and numbers (--doc-ids)"
            )
        return row.id

    def _check_sampling(self, row: ExportRow) -> None:
        if row.scored is None or is_benchmark_sampled(row.scored):
            return
        if self._options.is_benchmark:
            raise InvalidRequestError(
                f"{row.place}: its frames were not sampled as benchmarks are "
                f"({BENCHMARK_SAMPLING}), so figures would not compare with published ones; "
                "score it again with --sampling eval --sample-fps 1 --num-frames 512"
            )
        self._counts["num_otherwise_sampled"] += 1


def _repeated_id(line_id: DocId, place: str, other: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{place}: {shown(line_id)} is the id of {other} too; readers take the first line of an "
        "id, so each question must have its own"
    )


def _by_video(rows: Iterable[ExportRow]) -> Iterator[list[ExportRow]]:
    for _, neighbours in itertools.groupby(rows, key=lambda row: row.video):
        while group := list(itertools.islice(neighbours, _ROWS_TOGETHER)):
            yield group
