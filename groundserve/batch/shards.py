"""Parquet files of scored rows and of errors: their columns, and what a worker did for them."""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from groundserve import extras
from groundserve.answers import Answer, AnswerResult
from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import RowFailed, UnitDone, VideoTime
from groundserve.batch.row import Group, Row
from groundserve.batch.row_options import RowOptions, options_json
from groundserve.results import QueryResult, ScoreResult
from groundserve.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa

SCORES, ERRORS = "scores", "errors"
SUFFIX = ".parquet"
"""All and only the files with this ending are the final set."""
_NUM_SLOWEST = 3
"""Videos that a unit names: the slowest of a run are among them."""


@cache
def schema() -> pa.Schema:
    """Return the columns of every Parquet file of a run; docs/batch.md explains each."""
    pa = extras.load("pyarrow", "batch")
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


class Unit:
    """What one worker has done since it was published last."""

    def __init__(
        self, number: int, *, host: str = "", pid: int = 0, after: Unit | None = None
    ) -> None:
        """Begin with nothing, or where a unit of the same worker ends."""
        self.rows: list[dict[str, Any]] = []
        """Rows with an answer, as columns."""
        self.failures: list[RowFailed] = []
        self.done = UnitDone(unit=number, host=host, pid=pid, started=time.time())
        if after is not None:
            self.done.host, self.done.pid = after.done.host, after.done.pid
        self._told: float = 0.0 if after is None else after._told
        self._videos: dict[str, VideoTime] = {}  # by place

    @property
    def num_rows(self) -> int:
        """Rows that have an answer or an error."""
        return len(self.rows) + len(self.failures)

    def begin(self) -> None:
        """Charge no video with the time since the last word of any, as that of opening engines."""
        self._told = time.perf_counter()

    def add(
        self, group: Group, options: RowOptions, result: ScoreResult | AnswerResult
    ) -> list[Row]:
        """Take the answer of one call; return the rows of the group that asked this."""
        answers = dict(_answer_columns(result))
        rows = [row for row in group.rows if row.options == options and row.query in answers]
        common = {
            "options": options_json(options),
            "engine": json.dumps(result.info.engine, sort_keys=True),
        }
        for row in rows:
            own = {"id": row.id, "row_key": row.key, "video": row.video, "query": row.query}
            self.rows.append(own | common | answers[row.query])
        done, info = self.done, result.info
        done.num_rows += len(rows)
        done.num_calls += 1
        done.num_decoded += not info.cache_hit
        for stage, ms in info.timing_ms.items():
            done.stage_seconds[stage] = done.stage_seconds.get(stage, 0.0) + ms / 1000
        self._spend(group, rows, info.duration_seconds)
        return rows

    def fail(
        self,
        group: Group,
        kind: ErrorKind,
        message: str,
        options: RowOptions | None = None,
        queries: Sequence[str] | None = None,
    ) -> list[Row]:
        """Note that rows have no answer, those of one call or all; return them."""
        rows = [
            row
            for row in group.rows
            if (options is None or row.options == options)
            and (queries is None or row.query in queries)
        ]
        self.failures += (
            RowFailed(
                id=row.id,
                row_key=row.key,
                video=as_unicode(row.video),
                kind=str(kind),
                message=as_unicode(message),
            )
            for row in rows
        )
        self._spend(group, rows)
        return rows

    def published(self, *, shard: str, num_bytes: int, sha256: str) -> UnitDone:
        """Say what was done, once the rows are in a file."""
        videos = self._videos.values()
        return replace(
            self.done,
            failures=dict(Counter(failure.kind for failure in self.failures)),
            num_videos=len(videos),
            video_seconds=sum(video.video_seconds for video in videos),
            slowest=tuple(heapq.nlargest(_NUM_SLOWEST, videos, key=attrgetter("seconds"))),
            shard=shard if self.rows else None,
            num_bytes=num_bytes,
            sha256=sha256,
        )

    def _spend(self, group: Group, rows: Sequence[Row], video_seconds: float = 0.0) -> None:
        """Charge a video with the time since the last word of any."""
        seconds = time.perf_counter() - self._told
        name = as_unicode(rows[0].video) if rows else group.place
        before = self._videos.get(group.place, VideoTime(name, 0.0, 0, 0.0))
        self._videos[group.place] = VideoTime(
            video=before.video,
            seconds=before.seconds + seconds,
            num_rows=before.num_rows + len(rows),
            video_seconds=video_seconds or before.video_seconds,
        )
        self.done.wall_seconds += seconds
        self.begin()


def encode_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file; columns that a row lacks are null in it."""
    pa, pq = (extras.load(name, "batch") for name in ("pyarrow", "pyarrow.parquet"))
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
    pa, pq = (extras.load(name, "batch") for name in ("pyarrow", "pyarrow.parquet"))
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


def _answer_columns(result: ScoreResult | AnswerResult) -> Iterator[tuple[str, dict[str, Any]]]:
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
        # Lists: pyarrow takes ten times as long for arrays of these 32-bit numbers.
        "frame_logits": query.frame_logits.tolist(),
        "frame_scores": query.frame_scores.tolist(),
        "selected_frames": query.selected_frames,
        "selected_seconds": query.selected_seconds,
        "spans": [span._asdict() for span in query.spans],
    }


def as_unicode(text: str) -> str:
    """Return a text as Parquet can hold it: what is no Unicode is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
