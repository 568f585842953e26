"""SIGTERM that comes while this process trains."""

import signal
import threading

import pytest

from tests.unit.train.runs import make_config, run
from train.stop import RunStoppedError, stop_on_sigterm


def test_the_last_step_needs_no_stop(tmp_path):
    """A run that is done when it is asked to stop is done."""
    config = make_config(tmp_path / "run", max_steps=2)

    def ask(report):
        if report.step == 1:
            signal.raise_signal(signal.SIGTERM)

    found = run(config, on_step=ask)
    assert [line["step"] for line in found] == [1, 2]
    assert (config.out / "final").is_dir()


def test_validation_that_is_due_is_not_lost(tmp_path):
    config = make_config(tmp_path / "run", max_steps=6, save_every_steps=100)
    options = {"validate": lambda *_: {"loss": 1.0}, "validate_every_steps": 3}

    def ask(report):
        if report.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(RunStoppedError, match=r"stopped by SIGTERM; wrote .*checkpoint-3, go on"):
        run(config, on_step=ask, **options)
    found = run(config, resume=True, **options)
    assert [line["step"] for line in found if "validation" in line] == [3, 6]


def test_handlers_are_as_before_a_run():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as request:
        assert signal.getsignal(signal.SIGTERM) == request.receive
        signal.raise_signal(signal.SIGTERM)
        assert request.is_made
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_installs_nothing(tmp_path):
    before, seen = signal.getsignal(signal.SIGTERM), []

    def train():
        run(
            make_config(tmp_path / "run", max_steps=1),
            on_step=lambda _: seen.append(signal.getsignal(signal.SIGTERM)),
        )

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [before]
