"""DIR/attempts: who works, or worked, on a run; the newest alone may publish."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from typing import Any, NamedTuple

from groundserve.storage import RunDirectoryError, Storage

ATTEMPTS = "attempts"


class Claim(NamedTuple):
    """An attempt that is this process's own."""

    number: int
    content: bytes
    """No other process writes the same file."""


def claim_attempt(storage: Storage, *, manifest: str, started: float) -> Claim:
    """Make the next attempt this process's own."""
    content = json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": process_mark(os.getpid()),
            "started": started,
            "manifest": manifest,
        }
    ).encode()
    while True:
        number = max(_numbers(storage), default=0) + 1
        with contextlib.suppress(FileExistsError):  # another driver was faster
            storage.create(_name(number), content)
            return Claim(number, content)


def require_newest(storage: Storage, claim: Claim) -> None:
    """Refuse to go on where the run is no longer this process's.

    A folder that was removed may hold another run by now, whose attempts are counted from 1, too.
    """
    newest = max(_numbers(storage), default=0)
    if newest > claim.number:
        raise RunDirectoryError(
            f"attempt {newest} has begun in {storage.place}; this one, {claim.number}, must not "
            "publish any more"
        )
    with contextlib.suppress(FileNotFoundError):
        if storage.read(_name(claim.number)) == claim.content:
            return
    raise RunDirectoryError(
        f"{storage.place} was removed or replaced while attempt {claim.number} worked on it, which "
        "must not publish any more"
    )


def read_attempts(storage: Storage) -> dict[int, dict[str, Any]]:
    """Return what each attempt's file holds, by number; {} of one that is cut or gone."""
    attempts: dict[int, dict[str, Any]] = {}
    for number in sorted(_numbers(storage)):
        attempts[number] = {}
        with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
            attempts[number] = dict(json.loads(storage.read(_name(number))))
    return attempts


def process_mark(pid: int) -> str | None:
    """Return what tells a process from a later one of its number; None where it does not live."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            # The name, in brackets, may hold anything; the start is the 20th field behind it.
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else f"{boot.read().strip()} {fields[19]}"
    except (OSError, IndexError):
        return None


def _numbers(storage: Storage) -> list[int]:
    names = storage.names(ATTEMPTS)
    return [int(name[:-5]) for name in names if re.fullmatch(r"\d{4,}\.json", name)]


def _name(number: int) -> str:
    return f"{ATTEMPTS}/{number:04d}.json"
