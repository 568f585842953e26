"""Where scored questions are read: a batch's folder, records, answers of `score --json`."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from groundserve.batch_rows import batch_rows
from groundserve.errors import InvalidRequestError
from groundserve.exports.rows import ExportRow, scored_row
from groundserve.files import filled_lines
from groundserve.records.reading import Line, as_read, locked_lines
from groundserve.strict_json import parse_object, shown

SourceKind = Literal["batch", "records", "answers"]
Row = ExportRow | str
"""A question, or the kind of error that it has in place of an answer."""

_PLAIN = ("id", "video", "query", "num_source_frames", "fps", "duration_seconds", "error_kind")
_NUMBERS = ("frame_indices", "pts_seconds", "frame_logits", "frame_scores", "selected_frames")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place of scored questions, and what it is."""

    path: Path
    kind: SourceKind

    @property
    def is_unfinished(self) -> bool:
        """Whether it is the folder of a batch that has not come to its end."""
        # Its records are the last that a run writes.
        return (self.path / "run.json").exists() and not (self.path / "records.jsonl").exists()

    @property
    def media_root(self) -> str:
        """What relative names of videos start from.

        Of a batch its manifest's folder, which may be a URL; else "", the folder of this process.
        """
        newest = sorted(self.path.glob("attempts/*.json"), reverse=True)
        for path in (*newest, self.path / "run.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                manifest = str(json.loads(path.read_bytes())["manifest"])
                is_file = manifest.lower().endswith((".jsonl", ".parquet", ".csv"))
                return posixpath.dirname(manifest) if is_file else manifest
        return ""

    def rows(self) -> Iterator[Row]:
        """Yield the rows, some at a time in memory; an error names the row that is wrong."""
        if self.kind == "batch":
            for place, scalars in batch_rows(self.path, [*_PLAIN, *_NUMBERS, "spans"]):
                yield _batch_row(scalars, place)
        elif self.kind == "records":
            for line in locked_lines(self.path):
                yield _record_row(line, f"{self.path}, line {line.number}")
        else:
            yield from _read_answers(self.path)


def open_source(place: str | PathLike[str]) -> Source:
    """Find out what a place holds; nothing of it is kept.

    Args:
        place: Folder that `groundserve batch` wrote; or JSON of `score --json`, one answer or one a
            line; or JSON Lines of records, as `score --jsonl` and a batch write them.
    """
    path = Path(place)
    if path.is_dir():
        return Source(path=path, kind="batch")
    _, first = next(filled_lines(path), (0, b""))
    if not first:
        raise InvalidRequestError(f"{path} is empty")
    try:
        fields: Any = json.loads(first)
    except (ValueError, RecursionError):
        # An answer that was laid out over several lines begins so. Of all else the records'
        # reader tells the line that is wrong.
        fields = {"queries": None} if first.strip() == b"{" else {}
    is_answer = isinstance(fields, dict) and ("queries" in fields or fields.keys() == {"error"})
    return Source(path=path, kind="answers" if is_answer else "records")


def _batch_row(scalars: dict[str, Any], place: str) -> Row:
    values = {name: scalars[name].as_py() for name in _PLAIN}
    if values["error_kind"] is not None:
        return str(values["error_kind"])
    for name in _NUMBERS:
        numbers = getattr(scalars[name], "values", None)  # None where the column is no list
        values[name] = () if numbers is None else numbers.to_numpy(zero_copy_only=False)
    # An empty list is one too: a family that answers in text ranks nothing.
    if not len(values["frame_logits"]):
        raise InvalidRequestError(
            f"{place}: the row has no frame scores, as of a family that answers in text; an export "
            "hands frames over"
        )
    values["spans"] = scalars["spans"].as_py() or ()
    if not isinstance(values["id"], str):
        raise InvalidRequestError(f"{place}: id must be text, got {shown(values['id'])}")
    return scored_row(values, place=place, id=as_read(values["id"]))


def _record_row(line: Line, place: str) -> ExportRow:
    fields, index = line.fields, line.index
    if len(index) != len(set(index)) or not 0 <= min(index, default=-1) <= max(index) < 2**63:
        raise InvalidRequestError(f"{place}: index must hold frames, each once")
    scores = fields.get("logits")
    if not isinstance(scores, list) or len(scores) != len(index):
        raise InvalidRequestError(
            f"{place}: not a ranking: it has no logits beside index; a file of selected frames "
            "(doc_id and index alone) is what readers take already"
        )
    for name in ("contexts", "video_path"):
        if not isinstance(fields.get(name), str):
            raise InvalidRequestError(
                f"{place}: {name} must be text, got {shown(fields.get(name))}"
            )
    return ExportRow(
        place=place,
        id=line.doc_id,
        video=fields["video_path"],
        query=fields["contexts"],
        ranking=np.array(index, np.int64),
        scored=None,
    )


def _read_answers(path: Path) -> Iterator[Row]:
    for number, line in filled_lines(path):
        if line.strip() == b"{":  # one answer, laid out over several lines
            yield from _answer_rows(path.read_bytes(), str(path))
            return
        yield from _answer_rows(line, f"{path}, line {number}")


def _answer_rows(text: bytes, place: str) -> Iterator[Row]:
    answer = parse_object(text, place)
    if "error" in answer:
        error = answer["error"]
        yield str(error.get("type")) if isinstance(error, dict) else "unknown"
        return
    questions = answer["queries"]
    if not isinstance(questions, list) or not all(isinstance(one, dict) for one in questions):
        raise InvalidRequestError(f"{place}: queries must be a list of objects")
    for number, question in enumerate(questions, start=1):
        yield scored_row({**answer, **question}, place=f"{place}, question {number}", id=None)
