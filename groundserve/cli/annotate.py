"""`groundserve annotate`: make training data from videos, and read what people say of a sample."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.annotate.annotator import AnnotateSource
from groundserve.annotate.audit import AUDIT, read_audit, write_audit
from groundserve.annotate.estimate import estimate_run
from groundserve.annotate.items import ItemParser
from groundserve.annotate.outputs import KEPT, Item, read_items, write_outputs
from groundserve.annotate.review import write_review
from groundserve.batch.group_scorer import Work
from groundserve.batch.ray_pool import Workers
from groundserve.batch.report import write_report
from groundserve.batch.rows import BadRow, Row, read_manifest, rows_of_folder
from groundserve.batch.run_directory import FINGERPRINT
from groundserve.batch.status import read_status
from groundserve.cli._forms import RUN, forms_of
from groundserve.cli._options import AsJson, grouped
from groundserve.cli._output import print_json, print_line
from groundserve.cli.annotate_options import AnnotateOptions
from groundserve.cli.batch_run import run_rows
from groundserve.cli.batch_status import print_counts
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions
from groundserve.run_store import find_run
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.storage import open_storage, split_place

app = typer.Typer(
    cls=forms_of(AUDIT),
    rich_markup_mode="rich",
    help="Make training data from videos; annotate audit DIR FILE: what people say of a sample.",
)


@dataclass(frozen=True, kw_only=True)
class AnnotateJob:
    """One call of the command."""

    given: AnnotateOptions
    source: AnnotateSource
    options: AnswerOptions
    workers: Workers

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results, as fields of a `Fingerprint`."""
        return {
            "defaults": self.options,
            "span_threshold": DEFAULT_SPAN_THRESHOLD,
            "span_gap_seconds": DEFAULT_SPAN_GAP_SECONDS,
            "contract": self.source.settings.contract,
        }

    def admit(
        self, rows: Iterable[Row | BadRow], engine: Mapping[str, Any]
    ) -> Iterable[Row | BadRow]:
        """Return the rows: any can be asked."""
        return rows

    def work(self, engine_id: str) -> Work:
        """Return how rows are annotated, a question at a time."""
        seconds = self.given.timeout_seconds
        return Work(
            source=self.source, engine_id=engine_id, deadline_seconds=seconds, max_queries=1
        )


@app.command(RUN)
@grouped
def command(*, given: AnnotateOptions) -> None:
    """Make training data from videos, as the VidThinker pipeline does.

    Models behind OpenAI-compatible endpoints describe clips, retrieve those
    that a question needs, and judge their frames. --checkpoint or --engines
    name a second grounder, of ours, which must agree. The run goes on by
    --resume, and no answered call is paid twice. docs/annotate.md

    Example: [bold]groundserve annotate videos.jsonl --out run
    --endpoint http://127.0.0.1:8000/v1 --model my-vlm --engines videoitg-gpu[/bold]
    """
    settings, options = given.settings(), AnswerOptions()
    filesystem, path = split_place(given.manifest)
    if os.path.isdir(path) if filesystem is None else filesystem.isdir(path):
        rows = rows_of_folder(given.manifest, (), defaults=options)
    else:
        rows = read_manifest(given.manifest, defaults=options, parser=ItemParser)
    if not 0 <= given.min_agreement <= 1:
        raise InvalidRequestError(f"--min-agreement must be in [0, 1], got {given.min_agreement:g}")
    if given.dry_run is not None:
        _print(estimate_run(rows, open_storage(given.dry_run), given.prices()), given.as_json)
        return
    job = AnnotateJob(
        given=given,
        source=AnnotateSource(settings=settings, place=open_storage(given.out).place),
        options=options,
        workers=Workers(count=given.workers),
    )
    _, found = run_rows(job, rows, lambda: _finish(given))
    if not given.as_json:
        print_counts(read_status(given.out))
    _print(found, given.as_json)


@app.command(AUDIT)
def audit(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Run directory.")],
    export: Annotated[
        Path, typer.Argument(metavar="FILE", help="What Label Studio exported, as JSON.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say how many of the kept, and of the dropped annotations people find right.

    Example: [bold]groundserve annotate audit run export.json[/bold]
    """
    judged, storage = read_audit(export), open_storage(directory)
    if find_run(storage, FINGERPRINT) is None:
        raise InvalidRequestError(f"{storage.place} has no run of groundserve")
    storage.write(f"{AUDIT}/judged.json", json.dumps(judged).encode())
    _print(judged, as_json)


def _finish(given: AnnotateOptions) -> dict[str, Any]:
    storage, least = open_storage(given.out), given.min_agreement

    def items() -> Iterator[Item]:
        return read_items(storage, min_agreement=least)

    found = write_outputs(storage, min_agreement=least, prices=given.prices())
    write_review(storage, items())
    found["audited"] = write_audit(storage, items(), video_url=given.audit_url)
    tiles = [(name.replace("_", " "), _shown(it), "") for name, it in found.items() if _is_one(it)]
    report = write_report(given.out, more=tiles)
    return {**found, "training_data": f"{storage.place}/{KEPT}", "report": report}


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(found))
        return
    for name, value in found.items():
        if _is_one(value):
            print_line(f"{name.replace('_', ' '):20} {_shown(value)}")


def _is_one(value: object) -> bool:
    return isinstance(value, int | float | str)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.6g}"
