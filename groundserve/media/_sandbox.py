"""What a worker process gives up before it touches a video."""

from __future__ import annotations

import math
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def be_killed_first() -> None:
    """Have the kernel end this process before others when memory runs out, where /proc is there."""
    # The highest value there is. Raising one's own needs no privilege.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit_resources(*, address_space_bytes: int) -> None:
    """Cap memory; forbid writing files and core dumps."""
    # Address space and not resident memory, which Linux does not limit for a process. Allocations
    # past it fail, and Python and FFmpeg report them, where the kernel's killer would strike.
    _set_limit(resource.RLIMIT_AS, address_space_bytes)
    # Sockets are not files to it, so answers still go out.
    _set_limit(resource.RLIMIT_FSIZE, 0)
    # A dump would hold the caller's video.
    _set_limit(resource.RLIMIT_CORE, 0)


@contextmanager
def allow_more_memory(num_bytes: int) -> Iterator[None]:
    """Let the process take that much address space more than it has, for the length of a block."""
    # The first number: pages of address space, which is what RLIMIT_AS counts.
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    # Only the soft limit is lowered: up to the hard one a process may raise it again.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = min(hard, pages * resource.getpagesize() + num_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def allow_cpu_seconds(seconds: float) -> None:
    """Let the process use that much processor time from now on; past it the kernel kills it."""
    # RLIMIT_CPU counts whole seconds of all threads since the process began.
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds) + 1, hard))


def die_with_peer(peer: socket.socket) -> None:
    """End this process as soon as the other end of the socket is closed, also amid a job."""
    threading.Thread(target=_exit_on_hang_up, args=(peer.fileno(),), daemon=True).start()


def _exit_on_hang_up(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # hang-up is always reported
    # Lets go of the interpreter, so that the job runs on.
    poll.poll()
    # Not sys.exit, which ends this thread alone while the main one is inside a decoder.
    os._exit(1)


def _set_limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))
