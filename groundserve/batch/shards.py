"""Parquet files of scored rows and of errors: their columns, and how a worker writes one."""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from groundserve.answers import Answer, AnswerResult
from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import RowFailed, UnitDone, VideoTime
from groundserve.batch.row_options import RowOptions, options_json
from groundserve.batch.storage import Storage, open_storage
from groundserve.batch.units import Group, Unit
from groundserve.errors import MissingExtraError
from groundserve.results import QueryResult, ScoreResult

if TYPE_CHECKING:
    import pyarrow as pa

SCORES, ERRORS, STAGING = "scores", "errors", "staging"
SUFFIX = ".parquet"
"""All and only the files with this ending are the final set."""

_NUM_SLOWEST = 3
"""Videos of a unit that its receipt names: the slowest of a run are among them."""
_REQUEST_COLUMNS = ("id", "row_key", "video", "query", "options")


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Where the workers of an attempt write; small, so that it travels to them."""

    place: str
    attempt: int

    @property
    def folder(self) -> str:
        """Name of the folder below the run directory."""
        return f"{STAGING}/{self.attempt:04d}"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a worker hands to the driver in place of arrays."""

    done: UnitDone
    """Its `shard` is where the file is staged."""
    failures: tuple[RowFailed, ...]


@cache
def schema() -> pa.Schema:
    """Return the columns of every Parquet file of a run; docs/batch.md explains each."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("batch", "pyarrow") from error
    span = [
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("score", pa.float64()),
    ]
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            ("row_key", pa.string()),
            ("video", pa.string()),
            ("query", pa.string()),
            ("options", pa.string()),
            ("num_source_frames", pa.int64()),
            ("fps", pa.float64()),
            ("duration_seconds", pa.float64()),
            ("frame_indices", pa.list_(pa.int64())),
            ("pts_seconds", pa.list_(pa.float64())),
            ("frame_logits", pa.list_(pa.float32())),
            ("frame_scores", pa.list_(pa.float32())),
            ("selected_frames", pa.list_(pa.int64())),
            ("selected_seconds", pa.list_(pa.float64())),
            ("spans", pa.list_(pa.struct(span))),
            ("engine", pa.string()),
            ("answer", pa.string()),
            ("stop_reason", pa.string()),
            ("moments", pa.list_(pa.struct([*span, ("text", pa.string())]))),
            ("error_kind", pa.string()),
            ("error_message", pa.string()),
        ]
    )


class ShardWriter:
    """Gathers the answers of one unit and writes them as one file, in the manifest's order."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._rows: dict[int, dict[str, Any]] = {}  # position -> columns
        self._failures: dict[int, RowFailed] = {}
        self._num_calls = self._num_decoded = 0
        self._durations: dict[str, float] = {}  # place -> seconds
        self._stage_ms: Counter[str] = Counter()
        self._started = time.time()
        self._clock = self._told = time.perf_counter()
        self._times: dict[int, VideoTime] = {}  # position of a group's first row

    def start_clock(self) -> None:
        """Charge no video with the time since the last word of any, as that of opening engines."""
        self._told = time.perf_counter()

    def add(self, group: Group, options: RowOptions, result: ScoreResult | AnswerResult) -> None:
        """Take the answer of one call, for every row of the group that asked this.

        It replaces what `fail` said of them, as where a video is tried again.
        """
        answers = dict(answer_columns(result))
        text = options_json(options)
        engine = json.dumps(result.info.engine, sort_keys=True)
        for row, key in zip(group.rows, group.keys, strict=True):
            if row.options == options and row.query in answers:
                request = (row.id, key, row.video, row.query, text)
                columns = dict(zip(_REQUEST_COLUMNS, request, strict=True))
                self._rows[row.position] = {**columns, **answers[row.query], "engine": engine}
                self._failures.pop(row.position, None)
        self._num_calls += 1
        self._num_decoded += not result.info.cache_hit
        self._durations[group.place] = result.info.duration_seconds
        self._stage_ms.update(result.info.timing_ms)
        self._spend(group)

    def fail(
        self,
        group: Group,
        kind: ErrorKind,
        message: str,
        options: RowOptions | None = None,
        queries: Sequence[str] | None = None,
    ) -> None:
        """Note that rows have no answer: those of one call, or all of a group, not told of yet."""
        self._spend(group)
        for row, key in zip(group.rows, group.keys, strict=True):
            if (
                (options is None or row.options == options)
                and (queries is None or row.query in queries)
                and row.position not in self._rows
                and row.position not in self._failures
            ):
                self._failures[row.position] = RowFailed(
                    id=row.id,
                    row_key=key,
                    video=as_unicode(row.video),
                    kind=str(kind),
                    message=as_unicode(message),
                )

    def write(self, staging: Staging) -> Receipt:
        """Write the rows under a name that does not end in .parquet, to the disk."""
        num_told = len(self._rows) + len(self._failures)
        if num_told != self._unit.num_rows:
            raise RuntimeError(f"{num_told} of {self._unit.num_rows} rows of the unit were told of")
        staged, data = None, b""
        if self._rows:
            data = encode_rows([self._rows[position] for position in sorted(self._rows)])
            # Another name each time: of a unit that is run twice no file is mixed with another.
            staged = f"{staging.folder}/unit-{self._unit.number:06d}-{secrets.token_hex(8)}.staged"
            open_storage(staging.place).write(staged, data)
        done = UnitDone(
            unit=self._unit.number,
            num_rows=len(self._rows),
            failures=dict(Counter(failure.kind for failure in self._failures.values())),
            num_videos=len(self._unit.groups),
            num_decoded=self._num_decoded,
            num_calls=self._num_calls,
            video_seconds=sum(self._durations.values()),
            stage_seconds={name: ms / 1000 for name, ms in sorted(self._stage_ms.items())},
            started=self._started,
            wall_seconds=time.perf_counter() - self._clock,
            host=socket.gethostname(),
            pid=os.getpid(),
            shard=staged,
            num_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest() if staged else "",
            slowest=tuple(
                heapq.nlargest(_NUM_SLOWEST, self._times.values(), key=lambda it: it.seconds)
            ),
        )
        failures = tuple(self._failures[position] for position in sorted(self._failures))
        return Receipt(done=done, failures=failures)

    def _spend(self, group: Group) -> None:
        """Charge a group with the time since the last word of any."""
        now = time.perf_counter()
        before = self._times.get(group.rows[0].position)
        self._times[group.rows[0].position] = VideoTime(
            video=as_unicode(group.rows[0].video),
            seconds=(before.seconds if before else 0.0) + now - self._told,
            num_rows=len(group.rows),
            video_seconds=self._durations.get(group.place, 0.0),
        )
        self._told = now


def encode_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file; columns that a row lacks are null in it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=schema())
    # Checksums, so that a reader finds what a disk has broken since.
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def shard_name(folder: str, sha256: str) -> str:
    """Return the name of a file of the final set, which tells whether its bytes are still those."""
    return f"{folder}/part-{sha256[:16]}{SUFFIX}"


def read_shard(storage: Storage, name: str, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a file of the final set, after a look at all of its bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = storage.read(name)
    if not name.endswith(shard_name("", hashlib.sha256(data).hexdigest())):
        raise ValueError(f"its {len(data)} bytes are not those that were written")
    try:
        return pq.read_table(pa.BufferReader(data), columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error


def final_names(storage: Storage, folder: str) -> list[str]:
    """Return the files of the final set in a folder, sorted."""
    return [f"{folder}/{name}" for name in storage.names(folder) if name.endswith(SUFFIX)]


def scored_rows(storage: Storage, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows that have an answer as Arrow's scalars, file by file."""
    for name in final_names(storage, SCORES):
        table = read_shard(storage, name, columns)
        yield from zip(*map(table.column, columns), strict=True)


def answer_columns(result: ScoreResult | AnswerResult) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each question with the columns of its answer."""
    video = {
        "num_source_frames": result.info.num_source_frames,
        "fps": result.info.fps,
        "duration_seconds": result.info.duration_seconds,
        "frame_indices": result.frame_indices,
        "pts_seconds": result.pts_seconds,
    }
    if isinstance(result, AnswerResult):
        for answer in result.answers:
            yield answer.query, video | _text_columns(answer)
    else:
        for query in result.queries:
            yield query.query, video | _score_columns(query)


def _text_columns(answer: Answer) -> dict[str, Any]:
    return {
        "answer": as_unicode(answer.text),
        "stop_reason": answer.stop_reason,
        "moments": [
            {**asdict(moment), "text": as_unicode(moment.text)} for moment in answer.moments
        ],
    }


def _score_columns(query: QueryResult) -> dict[str, Any]:
    return {
        "frame_logits": query.frame_logits,
        "frame_scores": query.frame_scores,
        "selected_frames": query.selected_frames,
        "selected_seconds": query.selected_seconds,
        "spans": [span._asdict() for span in query.spans],
    }


def as_unicode(text: str) -> str:
    """Return a text as Parquet can hold it: what is no Unicode is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
