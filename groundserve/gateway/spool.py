"""Videos on disk: they stream in under caps, appear complete or not at all, and expire.

What one key stores never pushes out what another stored: a full spool takes the least recently used
of the same owner, and refuses where that has none.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote_from_bytes

from groundserve.errors import InvalidRequestError, MediaError, UnavailableError
from groundserve.gateway.access import Owner
from groundserve.gateway.errors import busy, not_found, over_quota, too_large
from groundserve.gateway.settings import GatewaySettings
from groundserve.gateway.store import Store, Video
from groundserve.limits import MIB

_WRITE_BYTES = MIB
"""Written, and hashed, in one turn of a thread."""
_NO_ROOM = "the gateway has no room for this video now; try again later"
_MAX_NAME = 200
_MAX_VIDEOS = 10_000
"""Of one owner: what each costs that is not its bytes."""


class Spool:
    """The videos of all owners, in one folder."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Make the folders where they are missing; one gateway alone may use them.

        Raises:
            InvalidRequestError: The folder cannot be used.
            UnavailableError: Another gateway uses it.
        """
        self.settings = settings
        self.videos_dir = settings.spool_dir.absolute() / "videos"
        self._arriving = settings.spool_dir.absolute() / "arriving"
        name = f"spool (--spool) {settings.spool_dir}"
        try:
            with ExitStack() as stack:
                for folder in (settings.spool_dir, self.videos_dir, self._arriving):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = os.open(settings.spool_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.store = Store(settings.spool_dir / "gateway.sqlite3")
                self._left = stack.pop_all()
        except BlockingIOError:
            raise UnavailableError(f"{name} is in use by another gateway") from None
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or f"gateway.sqlite3: {error}"
            raise InvalidRequestError(f"{name}: {reason}") from error
        self.is_closing = False
        """Whether work is broken off, which goes on after a restart with the video it is about."""
        self._pins: Counter[str] = Counter()
        self._arriving_bytes: Counter[str] = Counter()
        """By owner's name."""
        self._tidy()

    def close(self) -> None:
        """Leave the folder to others."""
        self.store.close()
        self._left.close()

    def path(self, video: Video) -> Path:
        """Return where a video's file is."""
        return self.videos_dir / video.id

    def uri(self, video: Video) -> str:
        """Return what a server is told."""
        return "file://" + quote_from_bytes(os.fsencode(self.path(video)))

    def get(self, owner: Owner, video_id: str) -> Video:
        """Return an owner's video, used now; refuse what is not there or another's."""
        found = self.store.videos(id=video_id, owner=owner.name)
        if not found:
            raise not_found("video")
        with suppress(sqlite3.Error):  # a full disk: it is there to be read, and to be deleted
            self.store.use(video_id)
        return found[0]

    @contextmanager
    def pinned(self, video: Video) -> Iterator[Video]:
        """Keep a video from expiring; a temporary one goes with its last pin."""
        self._pins[video.id] += 1
        try:
            yield video
        finally:
            self._pins[video.id] -= 1
            if not self._pins[video.id]:
                del self._pins[video.id]
                if video.is_temporary and not self.is_closing:
                    self.delete(video)

    def delete(self, video: Video) -> None:
        """Delete a video; who has it open reads on."""
        self.path(video).unlink(missing_ok=True)  # first: the row's end needs room on the disk
        self.store.delete(video)

    async def receive(
        self,
        chunks: AsyncIterable[bytes],
        owner: Owner,
        *,
        name: str,
        is_temporary: bool,
    ) -> Video:
        """Store what comes; if anything is wrong with it, or nobody waits, nothing is left.

        Raises:
            RefusedError: It is above a cap: that of one video, or of what the key may store; or the
                spool or its disk is full.
            MediaError: It is empty.
        """
        most = self.settings.max_video_bytes
        if self.store.count_videos(owner.name) >= _MAX_VIDEOS:
            raise over_quota(f"a key may store {_MAX_VIDEOS} videos; delete some")
        partial = self._arriving / secrets.token_hex(16)
        num_bytes, digest = 0, hashlib.sha256()
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                held = bytearray()
                async for chunk in chunks:
                    if num_bytes + len(chunk) > most:
                        raise too_large("a video", most)
                    num_bytes += len(chunk)
                    self._arriving_bytes[owner.name] += len(chunk)
                    self._make_room(owner)
                    held += chunk
                    if len(held) >= _WRITE_BYTES:
                        full, held = held, bytearray()
                        await asyncio.to_thread(_write, file, digest, full)
                await asyncio.to_thread(_write, file, digest, held)
            if not num_bytes:
                raise MediaError("the video is empty (0 bytes)")
            now = time.time()
            video = Video(
                id=f"video-{secrets.token_hex(12)}",
                owner=owner.name,
                name=name[:_MAX_NAME],
                num_bytes=num_bytes,
                sha256=digest.hexdigest(),
                created_at=now,
                used_at=now,
                is_temporary=is_temporary,
            )
            self.store.add(video)
            partial.rename(self.path(video))
            return video
        except (OSError, sqlite3.Error):  # above all a full disk
            raise busy(_NO_ROOM) from None
        finally:
            self._arriving_bytes[owner.name] -= num_bytes
            partial.unlink(missing_ok=True)

    def expire(self) -> None:
        """Delete what nobody used for too long."""
        oldest = time.time() - self.settings.max_age_seconds
        for video in self.store.videos():
            if video.used_at >= oldest:
                break
            if not self._pins[video.id]:
                self.delete(video)
        self.store.expire_jobs(before=oldest, max_bytes=self.settings.max_result_bytes)

    def _make_room(self, owner: Owner) -> None:
        if owner.key is not None:
            stored = self.store.video_bytes(owner.name) + self._arriving_bytes[owner.name]
            if stored > owner.key.max_stored_bytes:
                raise over_quota(
                    f"this key may store {owner.key.max_stored_bytes} bytes of videos; delete some"
                )
        arriving = self._arriving_bytes.total()
        while self.store.video_bytes() + arriving > self.settings.max_spool_bytes:
            own = self.store.videos(owner=owner.name)
            oldest = next((video for video in own if not self._pins[video.id]), None)
            if oldest is None:
                raise busy(_NO_ROOM)
            self.delete(oldest)

    def _tidy(self) -> None:
        """Remove what a gateway that was killed left: halves, and rows or files without the other.

        Of the temporary videos those stay that a job is to read.
        """
        for path in self._arriving.iterdir():
            path.unlink()
        wanted = {job.video_id for job in self.store.jobs(finished_at=None)}
        for video in self.store.videos():
            is_left = video.is_temporary and video.id not in wanted
            if is_left or not self.path(video).is_file():
                self.delete(video)
        known = {video.id for video in self.store.videos()}
        for path in self.videos_dir.iterdir():
            if path.name not in known:
                path.unlink()


def _write(file: BinaryIO, digest: hashlib._Hash, data: bytearray) -> None:
    file.write(data)
    file.flush()
    digest.update(data)
