"""What a server's processes are, by name."""

from __future__ import annotations

from pathlib import Path

import psutil


def name_of(process: psutil.Process) -> str:
    """Return a model's name for its stub, "media worker" for a worker, else the program's."""
    words = process.cmdline()
    for word in words:
        if "/model_repository/" in word:
            return f"model {Path(word.split('/model_repository/')[1]).parts[0]}"
    return "media worker" if "groundserve.media._worker" in words else process.name()
