"""The records that `score --jsonl` adds to a file: planned before any work, written after it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from groundserve.errors import InvalidRequestError
from groundserve.records import (
    DocId,
    Record,
    add_records,
    check_records,
    make_doc_id,
    make_record,
    make_selection_record,
)
from groundserve.results import ScoreResult

JsonlFormat = Literal["ranking", "selected"]


@dataclass(frozen=True, kw_only=True)
class RecordPlan:
    """Where the records of one call go, and as what."""

    path: Path
    doc_ids: list[DocId]
    """One a question."""
    jsonl_format: str
    replace: bool
    """Whether records that have these ids are replaced."""


def named_by_content(video: Path) -> Path:
    """Return what stands for a video without a path in text ids: `SHA-256 of the bytes/its name`.

    All that come through stdin would be one video otherwise, and replace each other's records.
    """
    with video.open("rb") as file:
        return Path(hashlib.file_digest(file, "sha256").hexdigest(), video.name)


def plan_records(
    jsonl: Path | None,
    video: Path,
    queries: Sequence[str],
    *,
    jsonl_format: str,
    doc_id: int | None,
    replace: bool,
) -> RecordPlan | None:
    """Check the options of the records and the file they go to; None without --jsonl.

    Raises:
        InvalidRequestError: The options do not go together, or the file cannot take the records.
    """
    if jsonl_format not in get_args(JsonlFormat):
        raise InvalidRequestError(
            f"--jsonl-format must be one of {', '.join(get_args(JsonlFormat))}, got {jsonl_format}"
        )
    is_selected = jsonl_format == "selected"
    if jsonl is None:
        options = (
            ("--jsonl-format", is_selected),
            ("--doc-id", doc_id is not None),
            ("--replace", replace),
        )
        for name, is_given in options:
            if is_given:
                raise InvalidRequestError(f"{name} goes with --jsonl")
        return None
    if doc_id is None and is_selected:
        raise InvalidRequestError(
            "--jsonl-format selected needs --doc-id, the question's number in its benchmark: who "
            "reads such a file matches numbers, and takes uniform frames where it finds none"
        )
    if doc_id is not None and doc_id < 0:
        raise InvalidRequestError(f"--doc-id must be >= 0, got {doc_id}")
    doc_ids: list[DocId]
    if doc_id is None:
        if len(set(queries)) < len(queries):
            raise InvalidRequestError("--query must be another each time, or give --doc-id")
        doc_ids = [make_doc_id(video, query) for query in queries]
    else:
        doc_ids = list(range(doc_id, doc_id + len(queries)))
    check_records(jsonl, doc_ids, replace=replace)
    return RecordPlan(path=jsonl, doc_ids=doc_ids, jsonl_format=jsonl_format, replace=replace)


def write_records(plan: RecordPlan, result: ScoreResult) -> None:
    """Write what was planned.

    Raises:
        InvalidRequestError: Another process has added a record with one of the ids since.
        OSError: The disk is full, or fails.
    """
    pairs = zip(result.queries, plan.doc_ids, strict=True)
    records: list[Record] = [
        make_record(result, query, doc_id=doc_id)
        if plan.jsonl_format == "ranking"
        else make_selection_record(query, doc_id=doc_id)
        for query, doc_id in pairs
    ]
    add_records(plan.path, records, replace=plan.replace)
