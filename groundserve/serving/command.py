"""The command line of the server."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.serving.device_memory import MemoryPools
from groundserve.serving.shared_memory import RegionSizes
from groundserve.serving.sockets import port_holder

LOOPBACK = "127.0.0.1"
"""The server has no authentication: nobody else should reach it."""

EXIT_TIMEOUT_SECONDS = 5
"""How long the server waits for requests in flight when it is told to stop."""

ADMIN_HEADER = "groundserve-admin"
"""Header with the secret; on gRPC it has the prefix `triton-grpc-protocol-`."""

HTTP_LIMIT_OPTION = "http-max-input-size"
"""Newer servers have it and refuse HTTP bodies above 64 MiB by default; 2.51 has no limit."""

MAX_CONNECTION_AGE_SECONDS = 30
"""An older gRPC connection gets GOAWAY: its calls go on, the next ones make a new connection. That
brings clients to a server that takes over, and spreads them where there are several."""

_MAX_PORT = 65535
_RESTRICTED_APIS = "model-repository,shared-memory,trace,logging"
"""Configurations can be read: clients ask for them, and ours hold shapes and numbers."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the server listens."""

    http: int
    """HTTP, also for health."""
    grpc: int
    """gRPC, what `groundserve.Client` uses."""
    metrics: int
    """Prometheus metrics over HTTP."""

    def __post_init__(self) -> None:
        chosen: dict[int, str] = {}
        for name, port in vars(self).items():
            if not 0 <= port <= _MAX_PORT:
                raise InvalidRequestError(
                    f"{name}_port (--{name}-port) must be from 0 to {_MAX_PORT}, got {port}"
                )
            # 0 is chosen by the system each time anew, never twice.
            if port and port in chosen:
                raise InvalidRequestError(
                    f"{chosen[port]}_port and {name}_port (--{name}-port) must differ, got {port}"
                )
            chosen[port] = name

    def reserve(self, host: str, metrics_host: str, *, is_shared: bool = False) -> Ports:
        """Check that the ports are free now, and replace every 0 by one that is.

        Args:
            host: Address of HTTP and gRPC.
            metrics_host: Address of the metrics.
            is_shared: Whether another server has those of HTTP and gRPC, and shares them.

        Raises:
            UnavailableError: One is taken.
        """
        places = {"metrics": (metrics_host, self.metrics)}
        if not is_shared:
            places |= {"http": (host, self.http), "grpc": (host, self.grpc)}
        # All are held at once, so that two of 0 do not get the same number; closed before the
        # server binds, which leaves a moment in which another process may take one.
        with ExitStack() as sockets:
            reserved = {
                name: sockets.enter_context(_listen(name, *place)).getsockname()[1]
                for name, place in places.items()
            }
        return replace(self, **reserved)


def server_command(
    executable: Path,
    *,
    model_repository: Path,
    host: str,
    metrics_host: str,
    ports: Ports,
    backend_dir: Path | None,
    shm_prefix: str,
    regions: RegionSizes,
    admin_secret: str,
    pools: MemoryPools | None = None,
    http_max_input_bytes: int | None = None,
) -> list[str]:
    """Return the arguments to start the server with.

    Args:
        executable: tritonserver.
        model_repository: Folder of models, all of which are loaded.
        host: IPv4 address to listen on.
        metrics_host: IPv4 address of the metrics.
        ports: Ports, none of them 0. HTTP's and gRPC's can be shared with the server's successor.
        backend_dir: Folder with the backends; the server's own where None.
        shm_prefix: First part of the names of its files in /dev/shm.
        regions: How large those start and grow.
        admin_secret: Value of `ADMIN_HEADER` that opens the APIs which change the server.
        pools: Memory to hand tensors between models in; the server's defaults where None.
        http_max_input_bytes: Largest HTTP body; None for a server without `HTTP_LIMIT_OPTION`.
    """
    restricted = f"{_RESTRICTED_APIS}:{ADMIN_HEADER}={admin_secret}"
    command = [
        str(executable),
        f"--model-repository={model_repository}",
        # The configurations are complete: nothing is left for the server to guess.
        "--disable-auto-complete-config",
        # Explicit: a model whose process died can be loaded again.
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--http-address={host}",
        f"--http-port={ports.http}",
        f"--grpc-address={host}",
        f"--grpc-port={ports.grpc}",
        # SO_REUSEPORT, for the successor that will listen beside this server: see `steering`.
        "--reuse-http-port=true",
        "--reuse-grpc-port=true",
        f"--grpc-max-connection-age={MAX_CONNECTION_AGE_SECONDS * 1000}",
        f"--metrics-address={metrics_host}",
        f"--metrics-port={ports.metrics}",
        # Both protocols know the same APIs; a request without the header's secret is refused.
        f"--http-restricted-api={restricted}",
        f"--grpc-restricted-protocol={restricted}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--backend-config=python,shm-default-byte-size={regions.default_bytes}",
        f"--backend-config=python,shm-growth-byte-size={regions.growth_bytes}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
    ]
    if backend_dir is not None:
        command.append(f"--backend-directory={backend_dir}")
    if pools is not None:
        # 0: the one GPU that a server uses.
        command.append(f"--cuda-memory-pool-byte-size=0:{pools.cuda_bytes}")
        command.append(f"--pinned-memory-pool-byte-size={pools.pinned_bytes}")
    if http_max_input_bytes is not None:
        command.append(f"--{HTTP_LIMIT_OPTION}={http_max_input_bytes}")
    return command


def largest_http_body(limits: Limits) -> int:
    """Return the bytes of the largest request within the limits: a video, questions, options."""
    questions = min(limits.max_queries * limits.max_query_bytes, limits.max_text_bytes)
    texts = questions + limits.max_options_bytes
    return limits.max_upload_bytes + texts + MIB  # and the JSON around them


def cannot_listen(name: str, host: str, port: int, error: OSError) -> UnavailableError:
    """Return the error for a port that cannot be had.

    Args:
        name: Of the port, as in `Ports`.
        host: IPv4 address.
        port: The port.
        error: What came of listening there.
    """
    # Not `strerror`: in what `socket.create_server` raises, it repeats the address.
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.EADDRINUSE:
        reason += f" by {port_holder(port)}"
    return UnavailableError(
        f"cannot listen on {host}:{port}: {reason}; choose another {name}_port (--{name}-port) or "
        "host (--host)"
    )


def _listen(name: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise cannot_listen(name, host, port, error) from error
