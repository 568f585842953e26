"""A worker on a bench: a folder of videos, a scripted scorer and what it was called with."""

from __future__ import annotations

from pathlib import Path

from groundserve.batch.group_scorer import Work
from groundserve.batch.keys import find_video
from groundserve.batch.row import Row
from groundserve.batch.shards import Receipt, Staging
from groundserve.batch.units import Group, Unit
from groundserve.batch.worker import UnitScorer
from groundserve.options import ScoreOptions
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from tests.batch.scripted import IDENTITY, ScriptedSource


class Bench:
    """A folder of videos, a scorer and what it was called with."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls = folder / "calls"
        self.work = Work(
            source=ScriptedSource(calls=self.calls),
            engine_id=IDENTITY.engine_id,
            staging=Staging(place=str(folder / "out"), attempt=1),
            num_threads=1,
            deadline_seconds=0.5,
            hang_seconds=0.5,
            span_threshold=DEFAULT_SPAN_THRESHOLD,
            span_gap_seconds=DEFAULT_SPAN_GAP_SECONDS,
        )
        self.num_rows = 0

    def group(self, video: str, *queries: str, options: ScoreOptions | None = None) -> Group:
        path = self.folder / video
        path.write_text(video)
        rows = []
        for query in queries or ("When?",):
            rows.append(
                Row(
                    id=f"row-{self.num_rows}",
                    video=video,
                    place=str(path),
                    query=query,
                    options=options or ScoreOptions(),
                    position=self.num_rows,
                )
            )
            self.num_rows += 1
        return Group(
            place=str(path),
            identity=find_video(str(path), hash_content=False).identity,
            num_bytes=path.stat().st_size,
            rows=tuple(rows),
            keys=tuple(f"key of {row.id}" for row in rows),
        )

    def score(self, *groups: Group, work: Work | None = None) -> Receipt:
        scorer = UnitScorer(work or self.work)
        try:
            return scorer.score(Unit(number=0, groups=groups))
        finally:
            scorer.close()
