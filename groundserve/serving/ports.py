"""The ports that a server listens at, and who has one that is taken."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnavailableError

_MAX_PORT = 65535
_LISTEN = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_NUM_WORDS = 3


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the server listens; 0 for one that the system chooses."""

    http: int | None
    """HTTP; None where it is not opened."""
    grpc: int
    """gRPC, what `groundserve.Client` and the keeper use."""
    metrics: int
    """Prometheus metrics over HTTP."""

    def __post_init__(self) -> None:
        chosen: dict[int, str] = {}
        for name, port in vars(self).items():
            if port is not None:
                check_port(name, port)
            # 0 is chosen by the system each time anew, never twice.
            if port and port in chosen:
                raise InvalidRequestError(
                    f"{chosen[port]}_port and {name}_port (--{name}-port) must differ, got {port}"
                )
            if port:
                chosen[port] = name

    def reserve(self, host: str, metrics_host: str) -> Ports:
        """Check that the ports are free now, and replace every 0 by one that is.

        Args:
            host: Address of HTTP and gRPC.
            metrics_host: Address of the metrics.

        Raises:
            UnavailableError: One is taken.
        """
        hosts = {"http": host, "grpc": host, "metrics": metrics_host}
        # All are held at once, so that two of 0 do not get the same number; closed before the
        # server binds, which leaves a moment in which another process may take one.
        with ExitStack() as sockets:
            reserved = {
                name: sockets.enter_context(listen(name, hosts[name], port)).getsockname()[1]
                for name, port in vars(self).items()
                if port is not None
            }
        return replace(self, **reserved)


def check_port(name: str, port: int) -> None:
    """Raise InvalidRequestError where there is no such port."""
    if not 0 <= port <= _MAX_PORT:
        raise InvalidRequestError(
            f"{name}_port (--{name}-port) must be from 0 to {_MAX_PORT}, got {port}"
        )


def listen(name: str, host: str, port: int, *, backlog: int | None = None) -> socket.socket:
    """Return a socket that listens.

    Args:
        name: Of the port, as in `Ports`.
        host: IPv4 address.
        port: The port; 0 picks a free one.
        backlog: Connections that may wait; the system's default where None.

    Raises:
        UnavailableError: The port is taken, by the process that is named, or cannot be had.
    """
    try:
        return socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        # Not `strerror`: in what `socket.create_server` raises, it repeats the address.
        reason = os.strerror(error.errno or 0)
        if error.errno == errno.EADDRINUSE:
            reason += f" by {port_holder(port)}"
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {reason}; choose another {name}_port "
            f"(--{name}-port) or host (--host)"
        ) from error


def port_holder(port: int, *, proc: Path = Path("/proc")) -> str:
    """Return who listens at a port, in words: its process id and how its command begins."""
    # "SLOT ADDRESS:PORT ADDRESS:PORT STATE TX:RX TIMER RETRANSMITS UID TIMEOUT INODE ...", in hex.
    tables = (proc / "net" / name for name in ("tcp", "tcp6"))
    text = "".join(table.read_text("ascii") for table in tables if table.exists())
    rows = [line.split() for line in text.splitlines()]
    inodes = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == _LISTEN}
    links = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if any(os.readlink(one) in links for one in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_text("utf-8", errors="replace").split("\0")
                # Not all: a server's secrets may stand among its options.
                return f"process {folder.name} ({' '.join(words[:_NUM_WORDS]).strip()})"
    return "a process that this user cannot see"
