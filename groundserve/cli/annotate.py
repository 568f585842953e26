"""`groundserve annotate`: make training data from videos, and read what people say of a sample."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from groundserve.annotate.annotator import AnnotateSource
from groundserve.annotate.audit import AUDIT, read_audit, write_audit
from groundserve.annotate.estimate import default_rates, estimate, measure, recorded_rates
from groundserve.annotate.items import read_items as read_rows
from groundserve.annotate.outputs import ALL, KEPT, SPANS, read_items, write_outputs
from groundserve.annotate.review import write_review
from groundserve.batch.group_scorer import Work
from groundserve.batch.ray_pool import Workers
from groundserve.batch.report import Tile, write_report
from groundserve.batch.row import BadRow, Row
from groundserve.batch.status import read_status
from groundserve.cli._forms import RUN, forms_of
from groundserve.cli._options import AsJson, grouped
from groundserve.cli._output import print_json, print_line
from groundserve.cli.annotate_options import AnnotateOptions
from groundserve.cli.batch_run import run_rows
from groundserve.cli.batch_status import print_counts
from groundserve.errors import InvalidRequestError
from groundserve.options import AnswerOptions
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD
from groundserve.storage import open_storage, split_place

_AUDIT = "audit"

app = typer.Typer(
    cls=forms_of(_AUDIT),
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
        return Work(
            source=self.source,
            engine_id=engine_id,
            deadline_seconds=self.given.timeout_seconds,
            max_queries=1,
        )


@app.command(RUN)
@grouped
def command(*, given: AnnotateOptions) -> None:
    """Make training data from videos, as the VidThinker pipeline does.

    Models behind OpenAI-compatible endpoints describe clips, retrieve those
    that a question needs, and judge their frames. --checkpoint, --engines or
    --server name a second grounder, of ours, which must agree. The run goes on
    by --resume, and no answered call is paid twice. docs/annotate.md

    Example: [bold]groundserve annotate videos.jsonl --out run
    --endpoint http://127.0.0.1:8000/v1 --model my-vlm --engines videoitg-gpu[/bold]
    """
    settings, prices = given.settings(), given.prices()
    rows = read_rows(given.manifest, is_folder=_is_folder(given.manifest))
    if not 0 <= given.min_agreement <= 1:
        raise InvalidRequestError(f"--min-agreement must be in [0, 1], got {given.min_agreement:g}")
    if given.dry_run:
        rates, each = default_rates(settings), float(given.proposals)
        if given.recorded is not None:
            rates, each = recorded_rates(open_storage(given.recorded))
        found = estimate(measure(rows, questions_per_proposal=each), rates, settings, prices)
        print_json(found) if given.as_json else _print_estimate(found)
        return
    if settings.verifier is not None:
        settings = replace(settings, verifier_id=str(settings.verifier.identity()["id"]))
    place = open_storage(given.out).place
    job = AnnotateJob(
        given=given,
        source=AnnotateSource(settings=settings.shared_by(given.workers), place=place),
        options=AnswerOptions(),
        workers=Workers(count=given.workers),
    )
    _, summary = run_rows(job, rows, lambda: _finish(given, prices))
    status = read_status(given.out)
    counts = {name: getattr(status, name) for name in ("num_rows", "num_done", "num_failed")}
    if given.as_json:
        print_json({**counts, "failures": dict(status.failures), **summary})
        return
    print_counts(status)
    _print_summary(summary)


@app.command(_AUDIT)
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
    judged = asdict(read_audit(export))
    open_storage(directory).write(f"{AUDIT}/judged.json", json.dumps(judged).encode())
    if as_json:
        print_json(judged)
        return
    for name, value in judged.items():
        print_line(f"{name.replace('_', ' '):20} {'-' if value is None else f'{value:.4g}'}")


def _finish(given: AnnotateOptions, prices: Any) -> dict[str, Any]:
    storage = open_storage(given.out)
    summary = write_outputs(storage, min_agreement=given.min_agreement, prices=prices)

    def items() -> Any:
        return read_items(storage, min_agreement=given.min_agreement)

    review = write_review(storage, items())
    num_audited = write_audit(storage, items(), video_url=given.audit_url)
    report = write_report(given.out, more=list(_tiles(summary)))
    places = {"training_data": KEPT, "training_data_all": ALL, "spans": SPANS}
    return {
        **summary,
        "audited": num_audited,
        **{name: f"{storage.place}/{file}" for name, file in places.items()},
        "review": review,
        "audit": f"{storage.place}/{AUDIT}/tasks.json",
        "report": report,
    }


def _tiles(summary: Mapping[str, Any]) -> list[Tile]:
    dropped = ", ".join(f"{count} {why}" for why, count in summary["dropped"].items())
    tiles = [
        ("annotations kept", f"{summary['kept']:,}", f"of {summary['annotations']:,}; {dropped}"),
        ("calls of models", f"{summary['calls']:,}", ""),
        ("prompt tokens", f"{summary['prompt_tokens']:,}", ""),
        ("completion tokens", f"{summary['completion_tokens']:,}", ""),
    ]
    if summary["cost"] is not None:
        each = summary["cost_per_video_hour"] or 0.0
        tiles.append(("cost", f"{summary['cost']:,.4g}", f"{each:,.4g} an hour of video"))
    return tiles


def _print_summary(summary: Mapping[str, Any]) -> None:
    for name, value, about in _tiles(summary):
        print_line(f"{name:18} {value}{f' ({about})' if about else ''}")
    for name in ("training_data", "training_data_all", "spans", "review", "audit", "report"):
        print_line(f"{name.replace('_', ' '):18} {summary[name] or 'none'}")


def _print_estimate(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if not isinstance(value, dict):
            shown = "-" if value is None else f"{value:,.6g}"
            print_line(f"{name.replace('_', ' '):20} {shown}")


def _is_folder(place: str) -> bool:
    filesystem, path = split_place(place)
    return bool(os.path.isdir(path) if filesystem is None else filesystem.isdir(path))
