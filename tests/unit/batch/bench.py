"""A worker on a bench: a folder of videos, and what it asks of a scripted scorer."""

from __future__ import annotations

from pathlib import Path

from groundserve.batch.group_scorer import Work
from groundserve.batch.keys import find_video
from groundserve.batch.row import Group, Row
from groundserve.options import ScoreOptions
from tests.batch.scripted import IDENTITY, ScriptedSource


class Bench:
    """A folder of videos, and how they are scored."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.work = Work(
            source=ScriptedSource(),
            engine_id=IDENTITY["id"],
            deadline_seconds=0.5,
            hang_seconds=0.5,
        )
        self.num_rows = 0

    def group(self, video: str, *queries: str) -> Group:
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
                    options=ScoreOptions(),
                    position=self.num_rows,
                )
            )
            self.num_rows += 1
        identity = find_video(str(path), hash_content=False).identity
        return Group(place=str(path), identity=identity, rows=tuple(rows))
