"""Background jobs: they go on when the caller is gone, and begin again when the gateway was.

A job ends once, with an answer or with one error. One that a restart cut off begins again, a few
times at most: what ends the gateway again and again is given up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.gateway.access import Owner
from groundserve.gateway.errors import (
    RefusedError,
    busy,
    error_body,
    not_found,
    public_error,
)
from groundserve.gateway.requests import BODIES, Asked
from groundserve.gateway.store import Job
from groundserve.gateway.work import Desk, as_json, sse
from groundserve.runtime.progress import progress_socket, read_progress
from groundserve.serving.events import log_event

_MAX_TRIES = 10
_MAX_UNDER_WAY = 1000
"""Jobs of all owners that have not ended."""
_PATIENCE_SECONDS = 600.0
"""How long a job waits for a server to be ready."""
_AGAIN_SECONDS = 1.0
"""Between two tries to keep an answer."""
_BEAT_SECONDS = 15.0
"""Between two comments on a stream of events that has nothing to say."""


@dataclass(eq=False)
class _Running:
    task: asyncio.Task[None]
    stage: str = "queued"
    frames: tuple[int, int] | None = None
    """Decoded, and to be decoded; None where nobody has told."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced, and set, at each change."""

    def change(self, **values: Any) -> None:
        """Set fields, and wake those who follow."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.set()
        self.changed = asyncio.Event()

    @contextmanager
    def hears_progress(self, request_id: str) -> Iterator[None]:
        """Listen to a server on this host; others tell nothing."""
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            with suppress(OSError):  # one of that id is under way
                receiver = stack.enter_context(progress_socket(request_id))
                loop.add_reader(receiver, lambda: self.change(frames=read_progress(receiver)))
                stack.callback(loop.remove_reader, receiver)
            yield


class Jobs:
    """All jobs of all owners."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.spool.store
        self._running: dict[str, _Running] = {}
        self._places = asyncio.Semaphore(desk.settings.max_running_jobs)

    def open(self) -> None:
        """Begin again what a restart cut off."""
        for job in self._store.jobs(finished_at=None):
            owner, held = self._desk.access.named(job.owner), AsyncExitStack()
            if owner is not None:
                held.enter_context(owner.at_work(is_refused=False))
            self._begin(job, owner, held)

    async def close(self) -> None:
        """Stop work; it begins again at the next start."""
        running = [one.task for one in self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def add(self, asked: Asked, owner: Owner, request_id: str, held: AsyncExitStack) -> Job:
        """Take up a request, and all of `held`, which is left when it ends."""
        if len(self._running) >= _MAX_UNDER_WAY:
            raise busy("too many jobs are under way; try again later")
        job = Job(
            id=f"job-{secrets.token_hex(12)}",
            owner=owner.name,
            kind=asked.kind,
            request=asked.body.model_dump_json(exclude_none=True),
            video_id=asked.video.id if asked.video else None,
            request_id=request_id,
            created_at=time.time(),
        )
        self._store.add(job)
        self._begin(job, owner, held.pop_all())
        return job

    def get(self, owner: Owner, job_id: str) -> Job:
        """Return an owner's job; refuse what is not there or another's."""
        found = self._store.jobs(id=job_id, owner=owner.name)
        if not found:
            raise not_found("job")
        return found[0]

    async def delete(self, job: Job) -> None:
        """Cancel a job unless it has ended, and forget it."""
        if running := self._running.get(job.id):
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
        self._store.delete(job)

    def described(self, job: Job) -> str:
        """Return a job's JSON; an answer in it is that of the command line to the bit."""
        running = self._running.get(job.id)
        names = ("id", "kind", "status", "created_at", "finished_at", "request_id")
        done, most = (running and running.frames) or (None, None)
        known = {name: getattr(job, name) for name in names} | {
            "stage": running.stage if running else job.status,
            "frames_done": done,
            "num_frames": most,
        }
        error = json.loads(job.error)["error"] if job.error else None
        texts = {"error": json.dumps(error, ensure_ascii=False), "result": job.result or "null"}
        rest = "".join(f', "{name}": {text}' for name, text in texts.items())
        return f"{json.dumps(known)[:-1]}{rest}}}"

    async def events(self, owner: Owner, job_id: str) -> AsyncIterator[str]:
        """Yield a job as a `job` event at each change of its stage, and at its end with the answer.

        It ends with the job, also where that is deleted.
        """
        while True:
            try:
                job = self.get(owner, job_id)
            except RefusedError:
                return
            running = self._running.get(job_id)
            changed = running.changed if running else None
            yield sse(self.described(job), event="job")
            if changed is None:
                return
            while not changed.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), _BEAT_SECONDS)
                except TimeoutError:
                    yield ": still at work\n\n"

    def _begin(self, job: Job, owner: Owner | None, held: AsyncExitStack) -> None:
        task = asyncio.get_running_loop().create_task(self._run(job, owner, held))
        self._running[job.id] = _Running(task)

    async def _run(self, job: Job, owner: Owner | None, held: AsyncExitStack) -> None:
        running = self._running[job.id]
        values: dict[str, Any] = {}
        try:
            async with held, self._places:
                with running.hears_progress(job.request_id):
                    values = {"status": "done", "result": await self._work(job, owner, running)}
        except Exception as error:  # noqa: BLE001 - told to whoever asks
            told = public_error(error)
            log_event("job_failed", level=logging.WARNING, job=job.id, error=type(error).__name__)
            values = {"status": "failed", "error": json.dumps(error_body(told))}
        except asyncio.CancelledError:  # a restart that somebody wants is none of its tries
            self._store.update_job(job.id, status="queued", num_tries=job.num_tries)
            raise
        finally:
            try:
                if values:  # else it was cancelled
                    await self._end(job, values)
            finally:
                del self._running[job.id]
                running.change()

    async def _end(self, job: Job, values: dict[str, Any]) -> None:
        """Note how a job ended, when the disk has room for it again at the latest."""
        while True:
            try:
                return self._store.update_job(job.id, finished_at=time.time(), **values)
            except sqlite3.Error:
                log_event("job_not_kept", level=logging.ERROR, job=job.id)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _work(self, job: Job, owner: Owner | None, running: _Running) -> str:
        if owner is None:
            raise RefusedError(401, "AuthenticationError", "the key of this job is gone")
        if job.num_tries >= _MAX_TRIES:
            raise UnavailableError("the gateway ended each time it worked on this")
        self._store.update_job(job.id, status="running", num_tries=job.num_tries + 1)
        kind: Any = job.kind
        video = None
        with ExitStack() as held:
            if job.video_id is not None:
                found = self._store.videos(id=job.video_id)
                if not found:
                    raise InvalidRequestError("video_id: the video was deleted")
                video = held.enter_context(self._desk.spool.pinned(found[0]))
            asked = Asked.of(kind, BODIES[kind].model_validate_json(job.request), video)
            answer = await self._desk.answer(
                asked,
                owner,
                request_id=job.request_id,
                on_stage=lambda stage: running.change(stage=stage),
                patience_seconds=_PATIENCE_SECONDS,
            )
            return await as_json(answer)
