"""What outlives a restart: a row for each video and each job, in SQLite."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

JobStatus = Literal["queued", "running", "done", "failed"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, num_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, created_at REAL NOT NULL, used_at REAL NOT NULL,
    is_temporary INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, request TEXT NOT NULL,
    video_id TEXT, request_id TEXT NOT NULL, status TEXT NOT NULL, num_tries INTEGER NOT NULL,
    created_at REAL NOT NULL, finished_at REAL, result TEXT, error TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS videos_of ON videos (owner, used_at);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, finished_at);
"""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A file of the spool."""

    id: str
    owner: str
    name: str
    """As the caller called it; results do, too."""
    num_bytes: int
    sha256: str
    created_at: float
    """Seconds since the epoch, as the others."""
    used_at: float
    is_temporary: bool
    """Whether it goes with the request that brought it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work that nobody waits for on a connection."""

    id: str
    owner: str
    kind: str
    """What is asked: "score" or "ask"."""
    request: str
    """JSON of the body."""
    video_id: str | None
    """None where a URL is yet to be fetched."""
    request_id: str
    created_at: float
    status: JobStatus = "queued"
    num_tries: int = 0
    """How often it was begun."""
    finished_at: float | None = None
    result: str | None = None
    """The answer's JSON."""
    error: str | None = None
    """The error's JSON, with type and message."""


class Store:
    """The rows; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open it, and make what is missing."""
        path.touch(mode=0o600)  # its log gets the same
        self._rows = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._rows.row_factory = sqlite3.Row
        # A committed row outlives the end of this process; a power cut may take the last ones.
        # Nobody else can lock it: whoever did would stop the gateway.
        self._rows.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._rows.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def add(self, row: Video | Job) -> None:
        """Add a video or a job."""
        values = vars(row)
        table = "videos" if isinstance(row, Video) else "jobs"
        marks = ", ".join(f":{name}" for name in values)
        self._rows.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", values)

    def videos(self, **where: Any) -> list[Video]:
        """Return the videos whose columns have these values, those not used for longest first."""
        rows = map(dict, self._select("videos", "used_at", where))
        return [Video(**row | {"is_temporary": bool(row["is_temporary"])}) for row in rows]

    def jobs(self, **where: Any) -> list[Job]:
        """Return the jobs whose columns have these values, the oldest first."""
        return [Job(**dict(row)) for row in self._select("jobs", "created_at", where)]

    def job_statuses(self, owner: str) -> list[tuple[str, str]]:
        """Return the ids and statuses of an owner's jobs, the oldest first, without results."""
        return [
            (str(job), str(status))
            for job, status in self._rows.execute(
                "SELECT id, status FROM jobs WHERE owner = ? ORDER BY created_at", (owner,)
            )
        ]

    def use(self, video_id: str) -> None:
        """Note that a video is used now."""
        self._rows.execute("UPDATE videos SET used_at = ? WHERE id = ?", (time.time(), video_id))

    def update_job(self, job_id: str, **values: Any) -> None:
        """Set columns of a job."""
        texts = ", ".join(f"{name} = :{name}" for name in values)
        self._rows.execute(f"UPDATE jobs SET {texts} WHERE id = :id", {**values, "id": job_id})

    def delete(self, row: Video | Job) -> None:
        """Delete a video's or a job's row."""
        table = "videos" if isinstance(row, Video) else "jobs"
        self._rows.execute(f"DELETE FROM {table} WHERE id = ?", (row.id,))

    def video_bytes(self, owner: str | None = None) -> int:
        """Return the bytes of all videos, or of an owner's."""
        return int(
            self._rows.execute(
                "SELECT COALESCE(SUM(num_bytes), 0) FROM videos WHERE ?1 IS NULL OR owner = ?1",
                (owner,),
            ).fetchone()[0]
        )

    def count_videos(self, owner: str) -> int:
        """Return how many videos an owner has."""
        found = self._rows.execute("SELECT COUNT(*) FROM videos WHERE owner = ?", (owner,))
        return int(found.fetchone()[0])

    def count_jobs(self) -> dict[str, int]:
        """Return how many jobs there are by status."""
        return dict(self._rows.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status"))

    def expire_jobs(self, *, before: float, max_bytes: int) -> None:
        """Delete jobs that ended before a time, and the oldest whose results are too many bytes."""
        self._rows.execute("DELETE FROM jobs WHERE finished_at < ?", (before,))
        self._rows.execute(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM (SELECT id, SUM(COALESCE(LENGTH(result),"
            " 0)) OVER (ORDER BY finished_at DESC, id) AS bytes FROM jobs WHERE finished_at IS NOT"
            " NULL) WHERE bytes > ?)",
            (max_bytes,),
        )

    def _select(self, table: str, order: str, where: dict[str, Any]) -> list[sqlite3.Row]:
        texts = " AND ".join(f"{name} IS :{name}" for name in where) or "1"
        return self._rows.execute(
            f"SELECT * FROM {table} WHERE {texts} ORDER BY {order}", where
        ).fetchall()
