"""Who may call, and how much: a file with a line of JSON for each key.

Only the SHA-256 of a key is kept: keys are 256 random bits, which nobody guesses.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from groundserve.errors import InvalidRequestError
from groundserve.gateway.errors import RefusedError, over_quota
from groundserve.limits import GIB
from groundserve.serving.events import log_event
from groundserve.strict_json import parse_object

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
    """Requests and background jobs at one time."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable() or not self.name:
            raise InvalidRequestError("a key's name must be a printable text")
        for name in ("requests_per_minute", "max_stored_bytes", "max_jobs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidRequestError(f"{name} of a key must be a whole number > 0")


@dataclass(eq=False)
class Owner:
    """Whoever calls with a key, or everybody where there are none."""

    key: Key | None = None
    num_at_work: int = 0
    _tokens: float = field(default=0.0, init=False)
    _counted_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = self.key.requests_per_minute if self.key else 0.0
        self._counted_at = time.monotonic()

    @property
    def name(self) -> str:
        """Under which things are stored; empty for everybody."""
        return self.key.name if self.key else ""

    def count_request(self) -> None:
        """Take one from the requests of a minute, or refuse."""
        if self.key is None:
            return
        now, a_second = time.monotonic(), self.key.requests_per_minute / 60
        grown = self._tokens + (now - self._counted_at) * a_second
        self._tokens, self._counted_at = min(self.key.requests_per_minute, grown), now
        if self._tokens < 1:
            wait = (1 - self._tokens) / a_second
            raise over_quota("this key has sent too many requests", retry_after=wait)
        self._tokens -= 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold one of the places that this key has for its requests, or refuse."""
        if self.key is not None and self.num_at_work >= self.key.max_jobs:
            raise over_quota(f"this key may have {self.key.max_jobs} requests and jobs at one time")
        self.num_at_work += 1
        try:
            yield
        finally:
            self.num_at_work -= 1


class Access:
    """The keys of a file, which is read again when it changes; everybody where there is none."""

    def __init__(self, path: Path | None) -> None:
        """Read the file; InvalidRequestError where it cannot be."""
        self._path = path
        self._read_at = 0
        self._owners: dict[str, Owner] = {"": Owner()}
        """By the hash of the key; "" is who needs none."""
        self._by_name: dict[str, Owner] = {}
        if path is not None:
            self._read(path)

    def owner(self, token: str | None) -> Owner:
        """Return whose key it is, or refuse."""
        self._look()
        digest = hashlib.sha256((token or "").encode()).hexdigest()
        found = self._owners.get("" if self._path is None else digest)
        if found is None:
            raise RefusedError(
                401, "AuthenticationError", "a valid API key is needed: Authorization: Bearer KEY"
            )
        return found

    def named(self, name: str) -> Owner | None:
        """Return the owner of stored things; None where its key is gone."""
        self._look()
        return self._owners[""] if self._path is None else self._by_name.get(name)

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            if self._path.stat().st_mtime_ns != self._read_at:
                self._read(self._path)
        except (InvalidRequestError, OSError):  # what was read before goes on
            log_event("keys_unreadable", level=logging.ERROR)

    def _read(self, path: Path) -> None:
        try:
            self._read_at = path.stat().st_mtime_ns
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise InvalidRequestError(f"keys (--keys): {path}: {error.strerror}") from error
        owners: dict[str, Owner] = {}
        names: dict[str, Owner] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                key = Key(**parse_object(line, "the line"))
            except (TypeError, InvalidRequestError) as error:
                raise InvalidRequestError(f"keys (--keys): {path}:{number}: {error}") from error
            before = self._by_name.get(key.name)
            same = before is not None and before.key == key
            owner = before if before is not None and same else Owner(key)
            owners[key.sha256] = owner
            names[key.name] = owner
        self._owners, self._by_name = owners, names


def add_key(path: Path, name: str, **limits: int) -> str:
    """Add a key to a file, which is made where there is none; return the key, kept nowhere."""
    token = _PREFIX + secrets.token_urlsafe(32)
    key = Key(name=name, sha256=hashlib.sha256(token.encode()).hexdigest(), **limits)
    path.touch(mode=0o600, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(key)) + "\n")
    return token


_bearer = HTTPBearer(auto_error=False, description="An API key.")


async def _require_owner(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Owner:
    access: Access = request.app.state.gateway.access
    owner = access.owner(credentials.credentials if credentials else None)
    request.state.owner = owner.name
    owner.count_request()
    return owner


OwnerDep = Annotated[Owner, Depends(_require_owner)]
"""Whose request it is; every route that tells or does something takes it."""
