"""The network under construction; here it also holds the values of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class Network:
    def __init__(self, plugin_config: Any) -> None:
        self.plugin_config = plugin_config
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        # Names of the inputs that a plugin reads through a host pointer.
        self.read_on_host: set[str] = set()


_current: list[Network] = []


def default_net() -> Network:
    assert _current, "no network is being built"
    return _current[-1]


@contextlib.contextmanager
def net_guard(network: Network) -> Iterator[None]:
    _current.append(network)
    try:
        yield
    finally:
        _current.pop()
