"""Hostile requests to a server that answers in text, and a look at whether it is unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil

from tests.hostile.judge import Judge
from tests.triton.protocol import Arrays, Protocol
from tests.triton.serve import Server


@contextmanager
def judged(server: Server, family: str, *, good: Arrays, generation: Arrays) -> Iterator[Judge]:
    """Yield who asks; behind it the same processes must give the same bits for the same requests.

    Args:
        server: Running.
        family: Of its engines, by which its ensemble is named.
        good: A request to the ensemble that is answered.
        generation: One to the model `generation`.
    """
    protocol = Protocol("grpc", server.triton.grpc_address)
    judge = Judge(protocol, good)

    def ask() -> list[Arrays]:
        found = [judge.ask(family, good), judge.ask("generation", generation)]
        return [{name: one[name] for name in one if name != "INFO"} for one in found]

    def processes() -> set[int]:
        root = psutil.Process(server.triton.pid)
        return {root.pid, *(child.pid for child in root.children())}

    first, before = ask(), processes()
    yield judge
    assert processes() == before
    for answer, expected in zip(ask(), first, strict=True):
        for name in expected:
            np.testing.assert_array_equal(answer[name], expected[name], strict=True)
    protocol.client.close()
