"""Where scored questions are read: a batch's folder, records, answers of `score --json`."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.exports.rows import ExportRow, FailedRow, ScoredFrames, scored_row
from groundserve.records.reading import Line, opened
from groundserve.spans import Span
from groundserve.strict_json import parse_object, shown

SourceKind = Literal["batch", "records", "answers"]
Row = ExportRow | FailedRow

KIND_NAMES: dict[SourceKind, str] = {
    "batch": "a batch's folder",
    "records": "a file of records",
    "answers": "answers of score --json",
}


_URI = re.compile(r"([a-z][a-z0-9+.-]+):/", re.IGNORECASE)
"""With one slash: a path has lost the other."""


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
        """Yield the rows, some at a time in memory.

        Raises:
            InvalidRequestError: The place cannot be read, or something in it is not what it should
                be; the message names it.
            MissingExtraError: It is a batch's folder and pyarrow is not installed.
        """
        if self.kind == "batch":
            from groundserve.exports.batch_rows import read_batch

            return read_batch(self.path)
        return _read_answers(self.path) if self.kind == "answers" else _read_records(self.path)


def open_source(place: str | PathLike[str]) -> Source:
    """Find out what a place holds; nothing of it is kept.

    Args:
        place: Folder that `groundserve batch` wrote; or JSON of `score --json`, one answer or one a
            line; or JSON Lines of records, as `score --jsonl` and a batch write them.

    Raises:
        InvalidRequestError: It cannot be read, or is none of these.
    """
    path = Path(place)
    if uri := _URI.match(str(place)):
        # The rest is not repeated: it may hold a secret.
        raise InvalidRequestError(
            f"the source must be a local folder or file, got a URI ({uri[1]}:); copy it here"
        )
    if path.is_dir():
        return Source(path=path, kind="batch")
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
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


def _read_records(path: Path) -> Iterator[ExportRow]:
    with opened(path) as lines:
        for line in lines:
            yield _record_row(line, f"{path}, line {line.number}")


def _record_row(line: Line, place: str) -> ExportRow:
    fields = line.fields
    index = line.index
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
    try:
        with path.open("rb") as file:
            first = next(line for line in file if line.strip())
            if first.strip() == b"{":
                text = first + file.read()
                yield from _answer_rows(parse_object(text, str(path)), str(path))
                return
            for number, line in enumerate(chain([first], file), start=1):
                if line.strip():
                    place = f"{path}, line {number}"
                    yield from _answer_rows(parse_object(line, place), place)
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error


def _answer_rows(answer: dict[str, Any], place: str) -> Iterator[Row]:
    if "error" in answer:
        error = answer["error"]
        yield FailedRow(kind=str(error.get("type")) if isinstance(error, dict) else "unknown")
        return
    try:
        for number, query in enumerate(answer["queries"], start=1):
            video, text = answer["video"], query["query"]
            if not isinstance(video, str) or not isinstance(text, str):
                raise TypeError("video and query must be text")
            scored = ScoredFrames(
                num_source_frames=_array([answer["num_source_frames"]], np.int64).item(),
                fps=_array([answer["fps"]], np.float64).item(),
                duration_seconds=_array([answer["duration_seconds"]], np.float64).item(),
                frame_indices=_array(answer["frame_indices"], np.int64),
                pts_seconds=_array(answer["pts_seconds"], np.float64),
                frame_logits=_array(query["frame_logits"], np.float32),
                frame_scores=_array(query["frame_scores"], np.float64),
                selected_frames=_array(query["selected_frames"], np.int64),
                spans=[Span(*_array(span, np.float64).tolist()) for span in query["spans"]],
            )
            yield scored_row(
                scored,
                place=f"{place}, question {number}",
                id=None,
                video=video,
                query=text,
            )
    except InvalidRequestError:  # a ValueError too
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(f"{place}: not an answer of score --json: {error!r}") from error


def _array(values: object, dtype: type[np.generic]) -> NDArray[Any]:
    """Return a list of JSON's numbers; NumPy alone would cut 1.5 to 1, and read text and true."""
    kinds = {int} if issubclass(dtype, np.integer) else {int, float}
    if not isinstance(values, list) or not set(map(type, values)) <= kinds:
        raise TypeError("a list of numbers has something else")
    return np.array(values, dtype)
