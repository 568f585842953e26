"""The files of `groundserve score`: looked at before any work, and written after it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from groundserve.cli._checks import STDIN
from groundserve.cli._output import progress
from groundserve.errors import InvalidRequestError
from groundserve.frame_files import FrameFiles
from groundserve.records import (
    DocId,
    add_records,
    check_records,
    make_doc_id,
    make_record,
    make_selection_record,
)
from groundserve.results import ScoreResult

JsonlFormat = Literal["ranking", "selected"]


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
) -> Callable[[ScoreResult], None]:
    """Check the options of the records and the file they go to; return what writes them."""
    if jsonl_format not in get_args(JsonlFormat):
        raise InvalidRequestError(
            f"--jsonl-format must be one of {', '.join(get_args(JsonlFormat))}, got {jsonl_format}"
        )
    is_selected = jsonl_format == "selected"
    if jsonl is None:
        given = {
            "--jsonl-format": is_selected,
            "--doc-id": doc_id is not None,
            "--replace": replace,
        }
        for name, is_given in given.items():
            if is_given:
                raise InvalidRequestError(f"{name} goes with --jsonl")
        return lambda result: None
    if doc_id is None and is_selected:
        raise InvalidRequestError(
            "--jsonl-format selected needs --doc-id, the question's number in its benchmark: who "
            "reads such a file matches numbers, and takes uniform frames where it finds none"
        )
    if doc_id is not None and doc_id < 0:
        raise InvalidRequestError(f"--doc-id must be >= 0, got {doc_id}")
    if doc_id is None and len(set(queries)) < len(queries):
        raise InvalidRequestError("--query must be another each time, or give --doc-id")
    doc_ids: list[DocId] = [
        make_doc_id(video, query) if doc_id is None else doc_id + number
        for number, query in enumerate(queries)
    ]
    check_records(jsonl, doc_ids, replace=replace)

    def write(result: ScoreResult) -> None:
        records = [
            make_selection_record(query, doc_id=one)
            if is_selected
            else make_record(result, query, doc_id=one)
            for query, one in zip(result.queries, doc_ids, strict=True)
        ]
        add_records(jsonl, records, replace=replace)

    return write


def plan_frames(
    directory: Path | None, image_format: str | None, *, video: Path, queries: Sequence[str]
) -> Callable[[ScoreResult], dict[str, str]]:
    """Return what writes the frames, and says what `--json` adds to the answer."""
    if directory == STDIN:
        raise InvalidRequestError("--frames must name a folder, got -")
    if directory is None:
        if image_format is not None:
            raise InvalidRequestError("--frames-format goes with --frames")
        return lambda result: {}
    files = FrameFiles(
        directory,
        video,
        queries=queries,
        image_format=image_format or "png",  # type: ignore[arg-type]  # checked there
    )

    def write(result: ScoreResult) -> dict[str, str]:
        with progress("writing frames"):
            return {"frames_index": str(files.write(result))}

    return write
