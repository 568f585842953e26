"""`groundserve batch status`: how far a run is, whether it goes on, is dead or done."""

from __future__ import annotations

import math
import time
from typing import Annotated

import typer

from groundserve.batch.progress import clock_text
from groundserve.batch.report import write_report
from groundserve.batch.status import Status, read_status
from groundserve.cli._output import print_json, print_line
from groundserve.errors import InvalidRequestError

NAME = "status"

_STATES = {
    "running": "running",
    "silent": "silent for long: it is slow, or its machine is gone; --resume goes on",
    "stopped": "stopped before its end; --resume goes on",
    "finished": "finished",
}


def command(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Run directory: --out of groundserve batch.")
    ],
    report: Annotated[
        bool, typer.Option("--report", help="Write DIR/report.html again, from DIR alone.")
    ] = False,
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="Of all machines together, for the cost in the report."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how far a run is, from its directory alone; the run is not disturbed.

    Example: [bold]groundserve batch status run --report[/bold]
    """
    if price_per_hour is not None:
        check_price(price_per_hour)
        if not report:
            raise InvalidRequestError("--price-per-hour goes with --report")
    status = read_status(directory)
    if status.state == "empty":
        raise InvalidRequestError(f"{directory} holds no run; groundserve batch --out begins one")
    place = write_report(directory, price_per_hour=price_per_hour) if report else None
    if as_json:
        print_json(status.to_json() | ({"report": place} if place else {}))
        return
    print_status(status)
    if place:
        print_line(f"report    {place}")


def print_status(status: Status) -> None:
    """Print how far a run is."""
    if status.attempt:
        print_line(f"state     {state_text(status)}")
    print_counts(status)
    if status.state == "running" and status.rows_per_second is not None:
        left = "-" if status.eta_seconds is None else clock_text(status.eta_seconds)
        print_line(f"rate      {status.rows_per_second:.3g} rows/s, ETA {left}")


def print_counts(status: Status) -> None:
    """Print how many rows are done, have failed and are left."""
    if status.num_rows is None:
        print_line("rows      not counted yet")
    else:
        left = f", {status.num_left} left" if status.num_left else ""
        print_line(
            f"rows      {status.num_rows}: {status.num_done} done, {status.num_failed} failed{left}"
        )
    if status.failures:
        kinds = sorted(status.failures.items(), key=lambda item: (-item[1], item[0]))
        print_line("failed    " + ", ".join(f"{number} {kind}" for kind, number in kinds))
    if status.checkpoint_note:
        print_line(f"note      {' '.join(status.checkpoint_note.split())}")


def state_text(status: Status) -> str:
    """Return one line of whether it goes on, where, and since when it is silent."""
    text = f"{_STATES[status.state]}; attempt {status.attempt}"
    if status.host:
        text += f" on {status.host}, process {status.pid}"
    if status.state != "finished" and status.last_heartbeat is not None:
        silent = max(0.0, time.time() - status.last_heartbeat)
        text += f", last sign {clock_text(silent)} ago"
    return text


def check_price(price_per_hour: float) -> None:
    """Refuse what is no price."""
    if not (price_per_hour > 0 and math.isfinite(price_per_hour)):
        raise InvalidRequestError(f"--price-per-hour must be a number > 0, got {price_per_hour}")
