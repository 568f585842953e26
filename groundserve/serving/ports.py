"""The ports that a server listens at, and who has one that is taken."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress

import psutil

from groundserve.errors import InvalidRequestError, UnavailableError

_MAX_PORT = 65535
_NUM_WORDS = 3


def check_ports(**ports: int | None) -> None:
    """Refuse numbers that are no ports, and one that is given twice; None is no port at all."""
    chosen: dict[int, str] = {}
    for name, port in ports.items():
        if port is not None and not 0 <= port <= _MAX_PORT:
            raise InvalidRequestError(f"{_named(name)} must be from 0 to {_MAX_PORT}, got {port}")
        # 0 is chosen by the system each time anew, never twice.
        if port and port in chosen:
            raise InvalidRequestError(
                f"{chosen[port]}_port and {_named(name)} must differ, got {port}"
            )
        chosen[port or 0] = name


def reserve_ports(places: Mapping[str, tuple[str, int]]) -> dict[str, int]:
    """Return ports that are free: name -> (address, port), where 0 stands for any."""
    # All are held at once, so that two of 0 do not get the same number; closed before the server
    # binds, which leaves a moment in which another process may take one.
    with ExitStack() as sockets:
        return {
            name: sockets.enter_context(listen(name, *place)).getsockname()[1]
            for name, place in places.items()
        }


def listen(name: str, host: str, port: int, backlog: int = 1) -> socket.socket:
    """Return a socket that listens at an IPv4 address; `name` is for the message.

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
            f"cannot listen on {host}:{port}: {reason}; choose another {_named(name)} or host "
            "(--host)"
        ) from error


def _named(name: str) -> str:
    if name == "gateway":
        return "port (--port, or --gateway of serve)"
    return f"{name}_port (--{name}-port)"


def port_holder(port: int) -> str:
    """Return who listens at a port, in words: its process id and how its command begins."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid is not None:
            with suppress(psutil.Error):
                # Not all: a server's secrets may stand among its options.
                words = psutil.Process(one.pid).cmdline()[:_NUM_WORDS]
                return f"process {one.pid} ({' '.join(words)})"
    return "a process that this user cannot see"
