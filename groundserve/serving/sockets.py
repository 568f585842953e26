"""The TCP sockets of a process as /proc shows them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TABLES = ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6"))
_ESTABLISHED, _LISTEN = 1, 10  # include/net/tcp_states.h
_NUM_WORDS = 3


@dataclass(frozen=True, kw_only=True)
class TcpSocket:
    """One socket."""

    family: socket.AddressFamily
    """IPv4 or IPv6; one of IPv6 may take connections of both."""
    address: str
    """Its own address."""
    port: int
    """Its own port."""
    remote_port: int
    """Of the other end; 0 of one that listens."""
    state: int
    """As the kernel numbers them."""
    inode: int
    """Names it; 0 until the process has accepted the connection."""

    @property
    def is_listening(self) -> bool:
        """Whether it takes connections."""
        return self.state == _LISTEN

    @property
    def is_open(self) -> bool:
        """Whether it is a connection that neither end has closed."""
        return self.state == _ESTABLISHED


def tcp_sockets() -> Iterator[TcpSocket]:
    """Yield the sockets of all processes."""
    for family, table in _TABLES:
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for line in (_PROC / "net" / table).read_text("ascii").splitlines()[1:]:
                yield _parse(family, line.split())


def sockets_of(pid: int) -> list[TcpSocket]:
    """Return the sockets of one process, none where it has ended."""
    inodes = set()
    with suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                inodes.add(str(descriptor.readlink()))
    # /proc/net/tcp names no process; the inode is what a descriptor's link says, too.
    return [found for found in tcp_sockets() if f"socket:[{found.inode}]" in inodes]


def port_holder(port: int) -> str:
    """Return who listens at a port, in words: its process id and how its command begins."""
    for folder in _PROC.glob("[0-9]*"):
        if any(each.is_listening and each.port == port for each in sockets_of(int(folder.name))):
            with suppress(OSError):  # it has ended
                words = (folder / "cmdline").read_text("utf-8", errors="replace").split("\0")
                # Not all: a server's secrets may stand among its options.
                return f"process {folder.name} ({' '.join(words[:_NUM_WORDS]).strip()})"
    return "a process that this user cannot see"


def _parse(family: socket.AddressFamily, words: list[str]) -> TcpSocket:
    # "SLOT ADDRESS:PORT ADDRESS:PORT STATE TX:RX TIMER RETRANSMITS UID TIMEOUT INODE ...", in hex,
    # an address as the machine's 32-bit words in network order.
    address, port = words[1].split(":")
    packed = b"".join(
        struct.pack("=I", int(address[i : i + 8], 16)) for i in range(0, len(address), 8)
    )
    return TcpSocket(
        family=family,
        address=socket.inet_ntop(family, packed),
        port=int(port, 16),
        remote_port=int(words[2].split(":")[1], 16),
        state=int(words[3], 16),
        inode=int(words[9]),
    )
