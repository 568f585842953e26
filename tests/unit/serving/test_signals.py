from __future__ import annotations

import signal

import pytest

from groundserve.serving.signals import signals_deferred, sigterm_as_interrupt


def test_sigterm_raises_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_deferred_signal_comes_at_the_end(number):
    done = []

    def step() -> None:
        with sigterm_as_interrupt(), signals_deferred():
            signal.raise_signal(number)
            done.append("the step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert done == ["the step"]
