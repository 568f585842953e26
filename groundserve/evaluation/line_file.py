"""Files of JSON lines that one process appends to, each line on the disk before the next step."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from groundserve.errors import UnavailableError


def open_lines(path: Path) -> IO[bytes]:
    """Open a file to append to, locked, with no part of a line at its end.

    Raises:
        UnavailableError: Another process has it open.
    """
    file = path.open("ab+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UnavailableError(f"another process answers questions into {path}") from None
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        file.truncate(whole)
    return file


def append_lines(file: IO[bytes], lines: Sequence[Mapping[str, Any]]) -> None:
    """Append lines in one write."""
    file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    file.flush()
    os.fsync(file.fileno())
