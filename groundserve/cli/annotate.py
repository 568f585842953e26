"""`groundserve annotate`: make training data from videos, and read what people say of a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.annotate.annotator import AnnotateSource
from groundserve.annotate.audit import AUDIT, read_audit, write_audit
from groundserve.annotate.estimate import estimate_run
from groundserve.annotate.items import ItemParser
from groundserve.annotate.outputs import KEPT, read_items, write_outputs
from groundserve.annotate.review import write_review
from groundserve.batch.group_scorer import Work
from groundserve.batch.ray_pool import Workers
from groundserve.batch.report import write_report
from groundserve.batch.rows import read_manifest, rows_of_folder
from groundserve.batch.run_directory import FINGERPRINT
from groundserve.batch.status import read_status
from groundserve.cli._forms import RUN, forms_of
from groundserve.cli._options import AsJson, grouped
from groundserve.cli._output import print_json, print_line
from groundserve.cli.annotate_options import AnnotateOptions
from groundserve.cli.batch_job import is_folder
from groundserve.cli.batch_run import RowsJob, run_rows
from groundserve.cli.batch_status import print_counts
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions
from groundserve.run_store import find_run
from groundserve.storage import open_storage

app = typer.Typer(
    cls=forms_of(AUDIT),
    rich_markup_mode="rich",
    help="Make training data from videos; annotate audit DIR FILE: what people say of a sample.",
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
    if is_folder(given.manifest):
        rows = rows_of_folder(given.manifest, (), defaults=options)
    else:
        rows = read_manifest(given.manifest, defaults=options, parser=ItemParser)
    if given.dry_run is not None:
        found = estimate_run(rows, open_storage(given.dry_run), given.prices)
    else:
        source = AnnotateSource(settings=settings, place=open_storage(given.out).place)
        job = RowsJob(
            given=given,
            source=source,
            options=options,
            workers=Workers(count=given.workers),
            settings={"defaults": options, "contract": settings.contract},
            # A question at a time: each may take long.
            work=lambda engine_id: Work(
                source=source,
                engine_id=engine_id,
                deadline_seconds=given.timeout_seconds,
                max_queries=1,
            ),
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
    storage = open_storage(given.out)
    items = read_items(storage, min_agreement=given.min_agreement)
    found = write_outputs(storage, items, prices=given.prices)
    write_review(storage, items)
    found["audited"] = write_audit(storage, items, video_url=given.audit_url)
    report = write_report(given.out, more=[(name, it, "") for name, it in _figures(found)])
    return {**found, "training_data": f"{storage.place}/{KEPT}", "report": report}


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(found))
        return
    for name, value in _figures(found):
        print_line(f"{name:20} {value}")


def _figures(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), value if isinstance(value, str) else f"{value:,.6g}")
        for name, value in found.items()
        if isinstance(value, int | float | str)
    ]
