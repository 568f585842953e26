"""The file of API keys: a line of JSON each.

Only the SHA-256 of a key is kept: keys are 256 random bits, which nobody guesses.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from groundserve.errors import InvalidRequestError
from groundserve.limits import GIB

_PREFIX = "gs-"


@dataclass(frozen=True, kw_only=True)
class Key:
    """One line of the file."""

    name: str
    """What logs call it, and whose things are: a new key of the same name sees the old one's."""
    sha256: str
    requests_per_minute: int = 600
    max_stored_bytes: int = 16 * GIB
    """Of the videos kept."""
    max_jobs: int = 16
    """Requests and background jobs at one time, and as many jobs that it follows."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or not self.name:
            raise InvalidRequestError("a key's name must be a printable text")
        for name in ("requests_per_minute", "max_stored_bytes", "max_jobs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidRequestError(f"{name} of a key must be a whole number > 0")


def add_key(path: Path, name: str, **limits: int) -> str:
    """Add a key to a file, which is made where there is none; return the key, kept nowhere."""
    token = _PREFIX + secrets.token_urlsafe(32)
    key = Key(name=name, sha256=hashlib.sha256(token.encode()).hexdigest(), **limits)
    path.touch(mode=0o600, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(key)) + "\n")
    return token
