"""Who may call, and how much of the gateway each may use."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from groundserve.errors import InvalidRequestError
from groundserve.files import read_objects
from groundserve.gateway.errors import RefusedError, over_quota
from groundserve.gateway.keys import Key
from groundserve.serving.events import log_event


@dataclass(eq=False)
class Owner:
    """Whoever calls with a key, or everybody where there are none."""

    key: Key | None = None
    num_at_work: int = 0
    num_following: int = 0
    picture: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Held while a frame or a clip is made for a key: others find a process that is free."""
    _tokens: float = field(default=math.inf, init=False)
    _counted_at: float = field(default_factory=time.monotonic, init=False)

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
    def at_work(self, *, is_refused: bool = True) -> Iterator[None]:
        """Hold one of the places that this key has for its requests, or refuse where all are."""
        if is_refused and self.key is not None and self.num_at_work >= self.key.max_jobs:
            raise over_quota(f"this key may have {self.key.max_jobs} requests and jobs at one time")
        self.num_at_work += 1
        try:
            yield
        finally:
            self.num_at_work -= 1

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hold one of the connections on which this key follows jobs, or refuse."""
        if self.key is not None and self.num_following >= self.key.max_jobs:
            raise over_quota(f"this key may follow {self.key.max_jobs} jobs at one time")
        self.num_following += 1
        try:
            yield
        finally:
            self.num_following -= 1


class Access:
    """The keys of a file, which is read again when it changes; everybody where there is none."""

    def __init__(self, path: Path | None) -> None:
        """Read the file; InvalidRequestError where it cannot be."""
        self._path = path
        self._version: tuple[int, int, int] | None = None
        """Of the file that was read."""
        self._owners: dict[str, Owner] = {"": Owner()}
        """By the hash of the key; "" is who needs none."""
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
        return next((one for one in self._owners.values() if one.name == name), None)

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            if _version(self._path) != self._version:
                self._read(self._path)
        except FileNotFoundError:  # once, not at each request
            if self._owners:
                log_event("keys_unreadable", level=logging.ERROR)
            self._owners, self._version = {}, None
        except (InvalidRequestError, OSError):  # what was read before goes on
            log_event("keys_unreadable", level=logging.ERROR)

    def _read(self, path: Path) -> None:
        self._version = _version(path) if path.exists() else None
        before = {owner.key: owner for owner in self._owners.values()}
        found = list(read_objects(path, Key, "--keys"))
        self._owners = {key.sha256: before.get(key) or Owner(key) for key in found}


def _version(path: Path) -> tuple[int, int, int]:
    """Tell files apart, also two within one tick of the clock."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


COOKIE = "groundserve_key"
"""Of the page: browsers send it where they cannot send a header, as for pictures and videos."""
_bearer = HTTPBearer(auto_error=False, description="An API key.")


async def _require_owner(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Owner:
    access: Access = request.app.state.gateway.access
    key = credentials.credentials if credentials else request.cookies.get(COOKIE)
    owner = access.owner(key)
    request.state.owner = owner.name
    owner.count_request()
    return owner


OwnerDep = Annotated[Owner, Depends(_require_owner)]
"""Whose request it is; every route that tells or does something takes it."""
