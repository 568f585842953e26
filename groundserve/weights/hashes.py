"""SHA-256 of files, by which engines and checkpoints are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(files: Iterable[tuple[str, Path]], *rest: str) -> str:
    """Return the SHA-256 over files, by name and content, and `rest`, a line each.

    Their order must not depend on where they lie: the same ones give the same anywhere.
    """
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(f"{name} {file_sha256(path)}\n".encode())
    for line in rest:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
