"""SIGTERM that comes while this process trains."""

import signal
from types import SimpleNamespace

from tests.unit.train.runs import make_config, run
from train import stop
from train.stop import SAME_STOP_SECONDS, stop_on_sigterm


def test_the_last_step_needs_no_stop(tmp_path):
    """A run that is done when it is asked to stop is done."""
    config = make_config(tmp_path / "run", max_steps=2)

    def ask(report):
        if report.step == 1:
            signal.raise_signal(signal.SIGTERM)

    found = run(config, on_step=ask)
    assert [line["step"] for line in found] == [1, 2]
    assert (config.out / "final").is_dir()


def test_a_sigterm_that_comes_later_ends_the_process(monkeypatch):
    """One that comes at once is the first, passed on by the launcher."""
    now, killed = 0.0, []
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("os.kill", lambda *_: killed.append(now))
    with stop_on_sigterm() as request:
        for now in (0.0, SAME_STOP_SECONDS, SAME_STOP_SECONDS + 1):  # noqa: B007
            signal.raise_signal(signal.SIGTERM)
    assert request.is_made
    assert killed == [SAME_STOP_SECONDS + 1]
