"""A gateway with a real socket in front of a scripted server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from groundserve.gateway.server import GatewayServer
from groundserve.gateway.settings import GatewaySettings
from tests.support.scripted_server import ScriptedServer

WAIT_SECONDS = 60.0


def wait_until(is_so: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not (found := is_so()):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    return found


@contextmanager
def gateway(folder: Path, *servers: ScriptedServer, key: str = "", **settings: Any):
    """Run a gateway; yields a client of it."""
    urls = tuple(server.url for server in servers)
    given = {"spool_dir": folder / "spool", "port": 0, "upstreams": urls, **settings}
    server = GatewayServer(GatewaySettings(**given))
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with (
        server.running(),
        httpx2.Client(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client,
    ):
        client.server = server
        desk = server.app.state.gateway
        wait_until(lambda: len(desk.upstreams.ready) == len(urls))
        yield client


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server with both heads."""
    with ScriptedServer(families=("videoitg", "vtimellm")) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., httpx2.Client]]:
    """Start gateways, which end with the test; all of a test's have one spool."""
    with ExitStack() as stack:
        yield lambda *servers, **settings: stack.enter_context(
            gateway(tmp_path, *servers, **settings)
        )
