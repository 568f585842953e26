"""The ports that a server listens at."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from groundserve.errors import InvalidRequestError, UnavailableError

_MAX_PORT = 65535


def check_ports(**ports: int | None) -> None:
    """Refuse numbers that are no ports, and one that is given twice; None is no port at all."""
    chosen: dict[int, str] = {}
    for name, port in ports.items():
        if port is not None and not 0 <= port <= _MAX_PORT:
            raise InvalidRequestError(
                f"{name}_port (--{name}-port) must be from 0 to {_MAX_PORT}, got {port}"
            )
        # 0 is chosen by the system each time anew, never twice.
        if port and port in chosen:
            raise InvalidRequestError(
                f"{chosen[port]}_port and {name}_port (--{name}-port) must differ, got {port}"
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
        UnavailableError: The port is taken, or cannot be had.
    """
    try:
        return socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        raise UnavailableError(
            # Not `strerror`: in what `socket.create_server` raises, it repeats the address.
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; choose another "
            f"{name}_port (--{name}-port) or host (--host)"
        ) from error
