"""Which of two servers that listen at one port gets the new connections.

While one server takes over from another both listen (SO_REUSEPORT), and the kernel would spread
connections over all their sockets, as many of one server as it opened. A program of one instruction
names the socket instead. From socket(7), SO_ATTACH_REUSEPORT_CBPF: sockets are numbered in the
order of listen(2); a new one inherits the program; where one is closed the last takes its number;
and with a number that no socket has connections are spread as without a program. A program can be
attached through a socket of the group alone, so one of ours joins for a moment. It comes last,
where no program points, and leaves the numbers as they were.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Self

from groundserve.errors import UnavailableError
from groundserve.serving.sockets import TcpSocket, sockets_of, tcp_sockets

_SO_ATTACH_REUSEPORT_CBPF = 51  # include/uapi/asm-generic/socket.h
_BPF_RET_K = 0x06  # BPF_RET | BPF_K of linux/bpf_common.h: return the constant
_ACCEPT_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Steering:
    """The sockets that listen at one address and port."""

    family: socket.AddressFamily
    """IPv4 or IPv6; a server may listen for both at one socket of IPv6."""
    address: str
    """Where they listen."""
    port: int
    """Port of all of them."""

    @classmethod
    def of(cls, pid: int, port: int) -> list[Self]:
        """Return what a server listens at, as seen from the kernel."""
        listening = (found for found in sockets_of(pid) if found.is_listening)
        places = {(each.family, each.address) for each in listening if each.port == port}
        return [cls(family, address, port) for family, address in sorted(places)]

    def is_shared_beyond(self, pids: Iterable[int]) -> bool:
        """Tell whether others than these processes listen here, too."""
        own = {found.inode for pid in pids for found in sockets_of(pid)}
        return any(self._is_member(found) and found.inode not in own for found in tcp_sockets())

    def keep(self) -> None:
        """Leave new connections with who listens now, also when others begin to.

        Raises:
            UnavailableError: The kernel does not let sockets be steered, or they are not shared.
        """
        with self._joined() as member:
            _attach(member, 0)

    def to(self, pid: int) -> None:
        """Give new connections to one of the servers, from the next on.

        Raises:
            UnavailableError: It does not listen here.
        """
        with self._joined() as member:
            chosen = None
            # The lowest of its numbers is valid still when the others have closed theirs.
            # - 1: the last number is this member's own.
            for number in reversed(range(self._num_listening() - 1)):
                _attach(member, number)
                if self._is_reached(pid):
                    chosen = number
                elif chosen is not None:
                    break
            _attach(member, chosen or 0)
        if chosen is None:
            raise UnavailableError(f"the new server does not listen at port {self.port}")

    @contextmanager
    def while_closing(self) -> Iterator[None]:
        """Keep the number valid while the server closes that new connections do not go to.

        Closing moves the last socket into the place of a closed one. With one of ours behind them
        the number stays the new server's; when that closes too there may be no such number, and
        nobody but the new server listens.
        """
        with self._joined():
            yield

    @contextmanager
    def _joined(self) -> Iterator[socket.socket]:
        with ExitStack() as stack:
            try:
                member = stack.enter_context(closing(socket.socket(self.family)))
                member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if self.family == socket.AF_INET6:
                    member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                member.bind((self.address, self.port))
                # Only sockets that listen are in the group that the program chooses from.
                member.listen()
            except OSError as error:
                raise UnavailableError(
                    f"cannot listen at port {self.port} beside the server: {error.strerror}"
                ) from error
            yield member

    def _num_listening(self) -> int:
        return sum(map(self._is_member, tcp_sockets()))

    def _is_member(self, found: TcpSocket) -> bool:
        place = (found.family, found.address, found.port)
        return found.is_listening and place == (self.family, self.address, self.port)

    def _is_reached(self, pid: int) -> bool:
        """Tell whether a connection that is made now is accepted by this process."""
        with closing(socket.socket(self.family)) as probe:
            probe.settimeout(_ACCEPT_TIMEOUT_SECONDS)
            probe.connect((self.address, self.port))  # an address of all means this machine
            own_port = probe.getsockname()[1]
            give_up_at = time.monotonic() + _ACCEPT_TIMEOUT_SECONDS
            while time.monotonic() < give_up_at:
                ends = [
                    s for s in tcp_sockets() if (s.port, s.remote_port) == (self.port, own_port)
                ]
                # The inode is 0 until somebody accepts, and then is in that process's descriptors.
                if any(end.inode for end in ends):
                    return bool({end.inode for end in ends} & {s.inode for s in sockets_of(pid)})
                time.sleep(_POLL_SECONDS)
        return False


def _attach(member: socket.socket, number: int) -> None:
    # struct sock_filter {code, jt, jf, k} and struct sock_fprog {len, filter} of linux/filter.h;
    # "P" with native alignment pads as C does.
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET_K, 0, 0, number))
    program = struct.pack("HP", 1, ctypes.addressof(instruction))
    try:
        member.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError as error:
        raise UnavailableError(
            f"this kernel does not let connections be steered: {error.strerror}"
        ) from error
