"""How `groundserve batch` shows on stderr how far it is: a bar on a terminal, else lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

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
    show = _bar if stderr.is_terminal else _lines
    with show(tally):

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
            counts = f"{tally.num_finished} {tally.num_failed} {tally.num_lost} {tally.step}"
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


@contextmanager
def _bar(tally: Tally) -> Iterator[None]:
    columns = (TextColumn("rows"), _Share(tally), _Counts(tally))
    with Progress(*columns, console=stderr, refresh_per_second=4) as progress:
        progress.add_task("rows", total=None)
        yield


class _Share(BarColumn):
    """The bar; it is drawn from the tally at each refresh, also where no event comes."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(bar_width=24)
        self._tally = tally

    def render(self, task: Task) -> object:  # type: ignore[override]  # what rich draws
        task.total = self._tally.num_rows
        task.completed = self._tally.num_finished
        return super().render(task)


class _Counts(ProgressColumn):
    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def render(self, task: Task) -> Text:
        tally = self._tally
        if tally.num_rows is None:
            return Text(tally.step)
        text = Text(f"{tally.num_finished}/{tally.num_rows}  ")
        if tally.num_failed:
            text.append(f"{tally.num_failed} failed", style="red").append("  ")
        if tally.num_lost:
            text.append(f"{tally.num_lost} to try again", style="yellow").append("  ")
        return text.append(describe_rates(tally))
