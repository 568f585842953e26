"""`groundserve batch`: score a corpus, with a form of its own to look at a run."""

from __future__ import annotations

import typer

from groundserve.batch.ray_pool import Workers
from groundserve.cli import batch_status
from groundserve.cli._forms import RUN, forms_of
from groundserve.cli._options import grouped
from groundserve.cli.batch_job import BatchJob
from groundserve.cli.batch_options import BatchOptions
from groundserve.cli.batch_run import run_batch

app = typer.Typer(
    cls=forms_of(batch_status.NAME),
    rich_markup_mode="rich",
    help="Score a corpus, as a run that resumes; batch status DIR: how far one is.",
)
app.command(batch_status.NAME)(batch_status.command)


@app.command(RUN)
@grouped
def command(ctx: typer.Context, *, given: BatchOptions) -> None:
    """Score a corpus of videos and questions, as a run that resumes.

    A model that answers in text gives answers and moments in place of scores;
    servers with one need --task. Without --checkpoint, --engines or --server,
    the small checkpoint that comes with groundserve scores. Needs the extra
    batch. Where RAY_ADDRESS is set the workers run on that Ray cluster. A row
    that cannot be scored is a row with an error, and the command still ends
    with 0. docs/batch.md

    Example: [bold]groundserve batch manifest.jsonl --out run --workers 4[/bold]

    Example: [bold]groundserve batch videos --query "When does a goal fall?" --out run[/bold]

    How far a run is: [bold]groundserve batch status run[/bold] (a manifest of
    the name status is ./status)
    """
    source = given.source(ctx)
    count = given.workers
    if count is None and source.starts_vllm and given.gpus_per_worker < 1:
        count = 1
    job = BatchJob(
        given=given,
        source=source,
        options=given.row_options(source.head),
        workers=Workers(
            count=count,
            cpus_each=given.cpus_per_worker,
            gpus_each=given.gpus_per_worker,
        ),
        frames=given.frame_output(),
    )
    run_batch(job, job.check())
