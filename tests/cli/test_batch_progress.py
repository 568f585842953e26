"""What a batch says while it runs: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from io import StringIO

import pytest
from rich.console import Console

from groundserve.batch.events import Said
from groundserve.batch.progress import Tally
from groundserve.cli import _output, batch_progress
from tests.unit.batch.events import Clock, done, started


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(_output.stderr, "quiet", False)  # a command before may have been told so
    return Clock()


def run_some(clock: Clock) -> None:
    """The same events for both."""
    with batch_progress.batch_progress(Tally(clock=clock)) as add:
        add(started(num_rows=100))
        add(done(1))
        clock.seconds += 10
        add(done(30, Missing=2))
        add(Said(message="Ray broke down"))
        time.sleep(0.6)  # the bar draws itself four times a second


def test_bar_on_a_terminal(clock, monkeypatch):
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    for module in (batch_progress, _output):
        monkeypatch.setattr(module, "stderr", console)
    run_some(clock)
    said = screen.getvalue()
    assert "33/100  2 failed  3.2 rows/s, 0 video hours/s, ETA 0:00:21" in said
    assert "note: Ray broke down" in said
    assert " s] " not in said


def test_quiet_says_nothing(clock, capsys, monkeypatch):
    monkeypatch.setattr(batch_progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(_output.stderr, "quiet", True)
    run_some(clock)
    assert capsys.readouterr().err == ""
