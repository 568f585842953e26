"""The network under construction; here it also holds the values of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class Network:
    def __init__(self, plugin_config: dict[str, Any]) -> None:
        self.plugin_config = SimpleNamespace(**plugin_config)
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}


_current: list[Network] = []


def default_net() -> Network:
    return _current[-1]


@contextlib.contextmanager
def net_guard(network: Network) -> Iterator[None]:
    _current.append(network)
    try:
        yield
    finally:
        _current.pop()
