"""SIGTERM that comes while this process trains."""

import signal

import pytest

from tests.unit.train.runs import make_config, run
from train.stop import RunStoppedError


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
