"""How `groundserve batch` shows on stderr how far it is: a bar on a terminal, else lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn

from groundserve.batch.events import Event, Said
from groundserve.batch.progress import Tally, describe, describe_rates
from groundserve.cli._output import STARTED, print_note, print_step, stderr

LINE_SECONDS = 5.0
_SILENT_SECONDS = 60.0
"""Longest time between two lines, where nothing comes back."""


@contextmanager
def batch_progress(tally: Tally) -> Iterator[Callable[[Event], None]]:
    """Show how far a batch is.

    Yields:
        What is to be called with each event.
    """
    with _Bar(tally) if stderr.is_terminal else _lines(tally):

        def add(event: Event) -> None:
            tally.add(event)
            if isinstance(event, Said):
                print_note(event.message)

        yield add


@contextmanager
def _lines(tally: Tally) -> Iterator[None]:
    is_over = threading.Event()

    def speak() -> None:
        said, last = "", time.monotonic() - _SILENT_SECONDS
        while True:
            now = time.monotonic()
            counts = f"{tally.num_finished} {tally.num_failed} {tally.step}"
            if not stderr.quiet and (counts != said or now - last >= _SILENT_SECONDS):
                said, last = counts, now
                print_step(describe(tally), now - STARTED)
            if is_over.wait(LINE_SECONDS):
                return

    speaker = threading.Thread(target=speak, name="batch progress", daemon=True)
    speaker.start()
    try:
        yield
    finally:
        is_over.set()
        speaker.join()
    if not stderr.quiet:
        print_step(describe(tally), time.monotonic() - STARTED)


class _Bar(Progress):
    """Drawn from the tally at each refresh, also where no event comes."""

    def __init__(self, tally: Tally) -> None:
        columns = (TextColumn("rows"), BarColumn(24), TextColumn("{task.fields[counts]}"))
        super().__init__(*columns, console=stderr, refresh_per_second=4)
        self._tally = tally
        self.add_task("rows", total=None, counts="")

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            task.total, task.completed = self._tally.num_rows, self._tally.num_finished
            task.fields["counts"] = _counts(self._tally)
        return super().get_renderables()


def _counts(tally: Tally) -> str:
    if tally.num_rows is None:
        return tally.step
    parts = [f"{tally.num_finished}/{tally.num_rows}"]
    if tally.num_failed:
        parts.append(f"[red]{tally.num_failed} failed[/red]")
    return "  ".join([*parts, describe_rates(tally)])
