"""What a server's processes are, by name."""

from __future__ import annotations

from pathlib import Path

import psutil

FIRST_REQUESTS = 4
"""How many requests, one after another, a fresh server answers slower than all that follow: so many
instances has the model with most of them, and each starts its media worker when it is first asked,
which takes some 0.2 s."""


def name_of(process: psutil.Process) -> str:
    """Return a model's name for its stub, "media worker" for a worker, else the program's."""
    words = process.cmdline()
    for word in words:
        if "/model_repository/" in word:
            return f"model {Path(word.split('/model_repository/')[1]).parts[0]}"
    return "media worker" if "groundserve.media._worker" in words else process.name()
