"""Rows of a batch that ask for text, answered as its workers do, without Ray around them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundserve.answers import Answer
from groundserve.batch.engines import EngineSource
from groundserve.batch.group_scorer import Answered, Work, score_group
from groundserve.batch.keys import Fingerprint
from groundserve.batch.plan import Plan
from groundserve.batch.rows import read_manifest
from groundserve.options import AnswerOptions


def answer_rows(
    source: EngineSource, rows: Iterable[Mapping[str, Any]], folder: Path
) -> dict[str, Answer]:
    """Return the answers by query, as each row has one of its own.

    Args:
        source: Of a family of head "text".
        rows: As a manifest has them.
        folder: Where the manifest is written to.
    """
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    identity = source.identity(AnswerOptions())
    fingerprint = Fingerprint.of(
        identity, defaults=AnswerOptions(), span_threshold=0.5, span_gap_seconds=0.0
    )
    work = Work(source=source, engine_id=fingerprint.engine_id)
    found: dict[str, Answer] = {}
    planned = read_manifest(str(manifest), defaults=AnswerOptions())
    with (
        Plan.make(planned, fingerprint=fingerprint) as plan,
        source.open(num_threads=1, limits=work.limits) as answerer,
    ):
        for group in plan.groups():
            for outcome in score_group(answerer, group, work):
                if isinstance(outcome, Answered):
                    found |= {one.query: one for one in outcome.result.answers}
    return found
