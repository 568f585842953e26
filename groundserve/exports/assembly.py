"""The lines of an export as they are put together, and the counts of what they leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from groundserve.errors import InvalidRequestError
from groundserve.exports.conversations import check_llava, llava_line, openai_line
from groundserve.exports.lmms_eval import BENCHMARK_SAMPLING, is_benchmark_sampled, lmms_eval_line
from groundserve.exports.numbering import Numbering
from groundserve.exports.options import ExportFormat, ExportOptions
from groundserve.exports.pictures import Pictures, all_frames
from groundserve.exports.qvhighlights import qvhighlights_line, rank_windows
from groundserve.exports.rows import ExportRow, FailedRow, ScoredFrames, choose_frames, seconds_of
from groundserve.exports.sources import Row, Source, SourceKind
from groundserve.exports.writing import SortedLines, repeated_id
from groundserve.records.record import DocId

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


class Assembly:
    """Turns rows into lines, and counts what there is to say about them."""

    def __init__(
        self,
        export_format: ExportFormat,
        options: ExportOptions,
        lines: SortedLines,
        *,
        kind: SourceKind,
    ) -> None:
        self._format = export_format
        self._options = options
        self._lines = lines
        self._kind = kind
        self._numbering = Numbering(
            first=options.doc_id,
            by_id=options.doc_ids,
            must_be_numbers=export_format == "lmms-eval",
        )
        self._failures: Counter[str] = Counter()
        self._num_otherwise_sampled = 0
        self._most_frames = 0
        self._num_below_threshold = 0

    def _answered(self, rows: Iterable[Row]) -> Iterator[ExportRow]:
        """Yield the rows that have an answer; count the others."""
        for row in rows:
            if isinstance(row, FailedRow):
                self._failures[row.kind] += 1
                if self._kind == "answers" and self._options.doc_id is not None:
                    # How many questions the failed call asked nobody knows.
                    raise InvalidRequestError(
                        "an answer of the source is an error, so the numbers of the questions "
                        "after it are not known; export the answers before and after it on "
                        "their own"
                    )
            else:
                yield row

    def add(self, rows: Iterable[Row]) -> None:
        """Add the lines of rows that need no picture."""
        for row in self._answered(rows):
            row_id = self._numbering.id_of(row)
            if self._format == "lmms-eval":
                line = self._lmms_eval(row, row_id)
            else:
                line = self._qvhighlights(row, _scored(row), row_id)
            self._lines.add(row_id, line, place=row.place)

    def check_pictured(self, rows: Iterable[Row], pictures: Pictures) -> None:
        """Refuse rows before the first video is decoded, which may be hours before the last."""
        places: dict[DocId, str] = {}
        for row in rows:
            if isinstance(row, FailedRow):
                continue
            row_id = self._numbering.id_of(row)
            if row_id in places:
                raise repeated_id(row_id, row.place, places[row_id])
            places[row_id] = row.place
            if self._format == "llava":
                check_llava(row)
            pictures.require(row.video, place=row.place)

    def add_pictured(self, rows: Iterable[Row], pictures: Pictures) -> None:
        """Add the lines of rows that show pictures; neighbours on one video share them."""
        for group in _by_video(self._answered(rows)):
            choices = [
                choose_frames(row, top_k=self._options.top_k, selector=self._options.selector)
                for row in group
            ]
            found = pictures.of_video(group[0].video, all_frames(choices))
            for row, frames in zip(group, choices, strict=True):
                row_id = self._numbering.id_of(row)
                shown = [found[ordinal] for ordinal in frames.tolist()]
                if self._format == "llava":
                    line = llava_line(row_id, row, shown)
                else:
                    scored = _scored(row)
                    line = openai_line(
                        row_id,
                        row,
                        scored,
                        shown,
                        seconds_of(scored, frames),
                        image_form=self._options.image_form,
                    )
                self._lines.add(row_id, line, place=row.place)

    def summary(self, source: Source) -> Exported:
        """Say what was collected.

        Raises:
            InvalidRequestError: There is nothing to write.
        """
        if not len(self._lines):
            failed = self._failures.total()
            why = f"all of its {failed} rows failed" if failed else "it holds no rows"
            raise InvalidRequestError(f"nothing to export from {source.path}: {why}")
        numbers = [it for it in self._lines.ids() if isinstance(it, int)]
        is_lmms_eval = self._format == "lmms-eval"
        return Exported(
            num_rows=len(self._lines),
            failures=dict(sorted(self._failures.items())),
            is_unfinished=source.is_unfinished,
            num_otherwise_sampled=self._num_otherwise_sampled,
            num_gaps=numbers[-1] + 1 - len(numbers) if is_lmms_eval else 0,
            most_frames=self._most_frames,
            num_unused_ids=self._numbering.num_unused,
            num_below_threshold=self._num_below_threshold,
        )

    def _lmms_eval(self, row: ExportRow, row_id: DocId) -> str:
        if row.scored is not None and not is_benchmark_sampled(row.scored):
            if self._options.is_benchmark:
                raise InvalidRequestError(
                    f"{row.place}: its frames were not sampled as benchmarks are "
                    f"({BENCHMARK_SAMPLING}), so figures would not compare with published ones; "
                    "score it again with --sampling eval --sample-fps 1 --num-frames 512"
                )
            self._num_otherwise_sampled += 1
        if self._options.order == "score":
            return lmms_eval_line(row_id, row.ranking)
        frames = choose_frames(row, top_k=self._options.top_k, selector=self._options.selector)
        self._most_frames = max(self._most_frames, len(frames))
        return lmms_eval_line(row_id, frames)

    def _qvhighlights(self, row: ExportRow, scored: ScoredFrames, row_id: DocId) -> str:
        windows = rank_windows(scored)
        self._num_below_threshold += windows.is_below_threshold
        return qvhighlights_line(
            row_id, video=row.video, query=row.query, scored=scored, windows=windows
        )


def _scored(row: ExportRow) -> ScoredFrames:
    assert row.scored is not None, "records were refused"
    return row.scored


def _by_video(rows: Iterable[ExportRow]) -> Iterator[list[ExportRow]]:
    """Yield neighbouring rows on one video together, a few at most."""
    group: list[ExportRow] = []
    for row in rows:
        if group and (row.video != group[0].video or len(group) == _ROWS_TOGETHER):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
