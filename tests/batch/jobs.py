"""Runs of jobs as the command does them, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from groundserve.batch.events import Event
from groundserve.batch.group_scorer import Work
from groundserve.batch.job import run_job
from groundserve.batch.keys import Fingerprint
from groundserve.batch.plan import Plan
from groundserve.batch.ray_pool import Workers
from groundserve.batch.rows import read_manifest
from groundserve.batch.run_directory import RunDirectory
from groundserve.options import ScoreOptions
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from tests.batch.scripted import IDENTITY

DEFAULTS = ScoreOptions()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A manifest, a run directory and who scores."""

    manifest: Path
    out: Path
    source: Any
    identity: Mapping[str, Any] = field(default_factory=lambda: IDENTITY)
    workers: Workers = field(default_factory=lambda: Workers(count=2))
    settings: Mapping[str, float] = field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of(
            self.identity,
            defaults=DEFAULTS,
            span_threshold=DEFAULT_SPAN_THRESHOLD,
            span_gap_seconds=DEFAULT_SPAN_GAP_SECONDS,
        )

    def run(
        self, *, resume: bool = False, on_event: Callable[[Event], None] | None = None
    ) -> list[Event]:
        """Run it here to its end; return what was told."""
        events: list[Event] = []

        def hear(event: Event) -> None:
            events.append(event)
            if on_event is not None:
                on_event(event)

        manifest = str(self.manifest)
        with (
            RunDirectory(
                str(self.out), self.fingerprint, manifest=manifest, is_resumed=resume
            ) as directory,
            Plan.make(
                read_manifest(manifest, defaults=DEFAULTS),
                fingerprint=self.fingerprint,
                done=directory.done(),
                failures=directory.failures(),
                max_attempts=100,
            ) as plan,
        ):
            run_job(
                plan,
                directory,
                Work(
                    source=self.source,
                    engine_id=self.identity["id"],
                    **self.settings,
                ),
                workers=self.workers,
                on_event=hear,
            )
            directory.finish(plan)
        return events

    def final(self) -> pa.Table:
        """Return the final set, in the order of ids."""
        return final_set(self.out)


def final_set(out: Path) -> pa.Table:
    """Return all rows of all files of a run's final set, in the order of ids."""
    tables = [pq.read_table(path) for path in sorted(out.rglob("*.parquet"))]
    return pa.concat_tables(tables).sort_by("id")


def write_manifest(folder: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """Write rows of (video, query), named by number, and the videos, which hold their names."""
    lines = []
    for number, (video, query) in enumerate(rows):
        path = folder / video
        if not path.exists() and not video.startswith("missing"):
            path.write_text(video)
        lines.append(json.dumps({"id": f"row-{number:05d}", "video": video, "query": query}))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
