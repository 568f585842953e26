"""A checked `groundserve batch`: planned, run, stopped in order, and what came of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeAlias, TypeVar

import typer

from groundserve.batch.events import Event, Said
from groundserve.batch.frame_output import write_index
from groundserve.batch.group_scorer import Work
from groundserve.batch.job import run_job
from groundserve.batch.keys import Fingerprint
from groundserve.batch.plan import Plan
from groundserve.batch.progress import Tally
from groundserve.batch.ray_pool import Workers
from groundserve.batch.records import RECORDS_NAME
from groundserve.batch.report import write_report
from groundserve.batch.row_options import RowOptions
from groundserve.batch.rows import BadRow, Row
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.status import Status, read_status
from groundserve.cli._output import print_json, print_line, say_error
from groundserve.cli.batch_job import BatchJob
from groundserve.cli.batch_progress import batch_progress
from groundserve.cli.batch_status import print_counts
from groundserve.storage import open_storage

_Finished = TypeVar("_Finished")
_Rows: TypeAlias = Iterable[Row | BadRow]


@dataclass(frozen=True, kw_only=True)
class RowsJob:
    """What `run_rows` needs of a `BatchJob`, for rows that other sources than engines answer."""

    given: Any
    source: Any
    options: RowOptions
    workers: Workers
    settings: dict[str, Any]
    work: Callable[[str], Work]
    admit: Callable[[_Rows, Mapping[str, Any]], _Rows] = lambda rows, engine: rows


def run_batch(job: BatchJob, rows: _Rows) -> None:
    """Run a checked job to its end, or to Ctrl-C or SIGTERM, and print what came of it."""
    started = time.monotonic()
    tally, places = run_rows(job, rows, lambda: _finish(job))
    status = read_status(job.given.out)
    if job.given.as_json:
        seconds = time.monotonic() - started
        print_json(_answer(status, tally, seconds=seconds) | places)
        return
    print_counts(status)
    for name, place in places.items():
        print_line(f"{name:9} {place}")


def run_rows(
    job: BatchJob | RowsJob, rows: _Rows, finish: Callable[[], _Finished]
) -> tuple[Tally, _Finished]:
    """Run a checked job to its end and finish it; a signal ends both in order, and the command."""
    tally = Tally()
    with _signals_caught() as caught:
        try:
            with batch_progress(tally) as on_event:
                _run(job, rows, tally, on_event)
            return tally, finish()
        except KeyboardInterrupt:
            say_error(f"groundserve: {_how_to_go_on(job)}")
            raise typer.Exit(128 + caught[-1]) from None


def _how_to_go_on(job: BatchJob | RowsJob) -> str:
    status = read_status(job.given.out)
    if status.state == "empty":
        return "stopped before the run began; nothing was written"
    counts = "" if status.num_rows is None else f" of {status.num_rows}"
    return (
        f"stopped: {status.num_done}{counts} rows are done; the same command with --resume goes on"
    )


def _finish(job: BatchJob) -> dict[str, str]:
    """Write what is made of all rows together; returns result -> place."""
    storage = open_storage(job.given.out)
    places = {"out": storage.place, "records": f"{storage.place}/{RECORDS_NAME}"}
    if job.frames is not None:
        places["frames"] = write_index(job.frames, storage)
    return places | {"report": write_report(job.given.out, price_per_hour=job.given.price_per_hour)}


def _answer(status: Status, tally: Tally, *, seconds: float) -> dict[str, Any]:
    counts = ("num_rows", "num_done", "num_failed", "failures", "attempt")
    return {
        **{name: getattr(status, name) for name in counts},
        "seconds": round(seconds, 3),
        "num_rows_this_attempt": tally.num_answered,
        "rows_per_second": round(tally.num_answered / seconds, 3),
        "video_hours": round(tally.video_seconds / 3600, 6),
        "checkpoint_note": status.checkpoint_note,
    }


def _run(
    job: BatchJob | RowsJob,
    rows: _Rows,
    tally: Tally,
    on_event: Callable[[Event], None],
) -> None:
    tally.step = "looking at the engines"
    engine = job.source.identity(job.options)
    rows = job.admit(rows, engine)
    fingerprint = Fingerprint.of(engine, **job.settings)

    def opened() -> RunDirectory:
        return RunDirectory(
            job.given.out,
            fingerprint,
            manifest=open_storage(job.given.manifest).place,
            is_resumed=job.given.resume,
            note=engine.get("note"),
        )

    with ExitStack() as stack:
        tally.step = "looking at the videos"
        directory = stack.enter_context(opened()) if job.given.resume else None
        plan = Plan.make(
            rows,
            fingerprint=fingerprint,
            done=directory.done() if directory else (),
            failures=directory.failures() if directory else (),
            max_attempts=job.given.max_attempts,
        )
        stack.enter_context(plan)
        for message in directory.said if directory else ():
            on_event(Said(message=message))
        if num_repeated := plan.num_repeated:
            on_event(
                Said(
                    message=f"{num_repeated} rows without an id ask what an earlier row asks of "
                    "the same video; they are left out"
                )
            )
        if directory is None:  # only now: a manifest that is refused leaves nothing behind
            directory = stack.enter_context(opened())
        tally.step = "starting the workers"
        run_job(
            plan,
            directory,
            job.work(fingerprint.engine_id),
            workers=job.workers,
            on_event=on_event,
        )
        on_event(directory.finish(plan))


@contextmanager
def _signals_caught() -> Iterator[list[int]]:
    """Have the main thread stop in order, as Ctrl-C does; yields the signals that came."""
    caught: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
