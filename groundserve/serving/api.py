"""The server's HTTP API, as far as its keeper needs it: health, and loading models."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
from contextlib import closing
from dataclasses import dataclass, field

from groundserve.errors import UnavailableError
from groundserve.serving.command import ADMIN_HEADER

_HEALTH_TIMEOUT_SECONDS = 5.0
# As long as a server may take to start: a load copies an engine's weights to the GPU.
_LOAD_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class ServerApi:
    """One server."""

    host: str
    """Address to connect to."""
    port: int
    """HTTP port."""
    metrics_host: str
    """Address of the metrics."""
    metrics_port: int
    """Port of the metrics."""
    admin_secret: str = field(repr=False)
    """Opens the API that loads models."""

    def is_ready(self) -> bool:
        """Tell whether it answers and has all models loaded; says nothing about their stubs.

        The server opens the port of the metrics last, a moment after it first says it is ready.
        """
        try:
            status, _ = self._request("GET", "/v2/health/ready", _HEALTH_TIMEOUT_SECONDS)
            metrics_address = (self.metrics_host, self.metrics_port)
            socket.create_connection(metrics_address, _HEALTH_TIMEOUT_SECONDS).close()
        except (UnavailableError, OSError):
            return False
        return status == http.client.OK

    def reload_model(self, name: str) -> None:
        """Load a model anew, with new stubs; an ensemble of it comes back by itself.

        Requests that the old stubs work on go on there. Loading alone does nothing while the model
        counts as loaded, which it does with a dead stub.

        Raises:
            UnavailableError: The model cannot be loaded, or the server is gone.
        """
        for action in ("unload", "load"):
            path = f"/v2/repository/models/{name}/{action}"
            status, answer = self._request("POST", path, _LOAD_TIMEOUT_SECONDS)
            if status != http.client.OK:
                raise UnavailableError(f"cannot {action} the model {name}: {_reason(answer)}")

    def swap_model(self, name: str) -> None:
        """Load a model that works a second time, and let it take the first one's place.

        Requests go to the old stubs until the new ones are ready, and those on the old ones are
        answered there. The server loads what is loaded already where files or the configuration
        changed, so a parameter that nobody reads gets another value.

        Raises:
            UnavailableError: It cannot be loaded, and the old one goes on; or the server is gone.
        """
        status, answer = self._request("GET", f"/v2/models/{name}/config", _HEALTH_TIMEOUT_SECONDS)
        if status != http.client.OK:
            raise UnavailableError(f"cannot read how {name} is configured: {_reason(answer)}")
        config = json.loads(answer)
        # A value that was never there before, so that each swap is a change.
        config.setdefault("parameters", {})["swap"] = {"string_value": secrets.token_hex(8)}
        body = json.dumps({"parameters": {"config": json.dumps(config)}}).encode()
        path = f"/v2/repository/models/{name}/load"
        status, answer = self._request("POST", path, _LOAD_TIMEOUT_SECONDS, body)
        if status != http.client.OK:
            raise UnavailableError(f"cannot load the model {name} again: {_reason(answer)}")

    def _request(
        self, method: str, path: str, timeout_seconds: float, body: bytes | None = None
    ) -> tuple[int, bytes]:
        # A new one for each request: the server may have been restarted since the last.
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)
        with closing(connection):
            try:
                connection.request(method, path, body, headers={ADMIN_HEADER: self.admin_secret})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError(f"tritonserver does not answer: {error!r}") from error


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return "no reason given"
