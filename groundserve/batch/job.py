"""A job: each of Ray's actors scores one video at a time, and one process publishes the answers.

An actor holds a scorer, which a video may kill or hang: its process is ended then, a new one takes
its place, and the driver knows which video that was. Where Ray itself dies, the job ends, and a
resume goes on.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import Event, UnitLost
from groundserve.batch.group_scorer import (
    Answered,
    JobError,
    Outcome,
    Unanswered,
    Work,
    score_group,
)
from groundserve.batch.plan import Plan
from groundserve.batch.ray_pool import Pool, Workers, started_ray
from groundserve.batch.row import Group, Row
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import Unit
from groundserve.errors import GroundserveError, UnavailableError

_OPEN_SECONDS = 1800.0
"""How long engines may take to open, on a cluster that must first grow."""
_POLL_SECONDS = 1.0
_MAX_DEATHS = 2
"""How often a process may die of one video before that has failed."""
_MAX_OPENINGS = 3
"""How often engines are opened where the process dies meanwhile, as of an OOM kill."""
_MAX_UNAVAILABLE = 3
"""Videos in a row that no server took before a job stops: the servers are gone, not the videos."""
_MAX_ROWS = 2048
"""Rows that are published together at most: 25 MB at 512 frames."""
_PUBLISH_SECONDS = (0.5, 60.0)
"""Shortest and longest time between two publications: a kill loses no more than that."""
_PUBLISH_SHARE = 1 / 16
"""Part of the time since the start that lies between two, within these bounds."""


def run_job(
    plan: Plan,
    directory: RunDirectory,
    work: Work,
    *,
    workers: Workers,
    on_event: Callable[[Event], None],
) -> None:
    """Do all that a plan has left, and publish the answers as they come.

    For the main thread: Ray ends with the thread that started it. `RunDirectory.finish` is left to
    the caller. What happens is told to `on_event`, in this thread.

    Raises:
        GroundserveError: The job cannot go on: engines that cannot be opened or are others, servers
            that are gone, a run directory that cannot be written to, a Ray that does not run. What
            was published stays.
    """

    def tell(event: Event) -> None:
        directory.write(event)
        on_event(event)

    if not plan.started().num_to_do:
        tell(plan.started(manifest=directory.manifest))
        return
    with started_ray(workers) as pool:
        tell(plan.started(workers=pool.number, manifest=directory.manifest))
        _Job(plan.groups(), directory, work, pool, on_event).run()


class _Worker:
    """What runs in an actor's process; its methods are streams of what happens.

    Where they raise, nobody knows in which state the process is: it is ended.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def open(self) -> Iterator[tuple[str, int] | JobError]:
        """Say the host and the process once a scorer is open."""
        try:
            work = self._work
            source = work.source.open(num_threads=work.num_threads, limits=work.limits)
            self._scorer = source.__enter__()  # as long as the process lives
            yield socket.gethostname(), os.getpid()
        except Exception as error:
            yield JobError(f"a worker cannot open its engines: {_worded(error)}")
            raise

    def score(self, group: Group) -> Iterator[Outcome | JobError]:
        try:
            yield from score_group(self._scorer, group, self._work)
        except JobError as error:
            yield error
        except Exception as error:
            yield Unanswered(kind=ErrorKind.INTERNAL, message=_worded(error))
            raise


def _worded(error: Exception) -> str:
    return str(error) if isinstance(error, GroundserveError) else f"{type(error).__name__}: {error}"


@dataclass(kw_only=True)
class _Seat:
    """A worker as the driver sees it, with the video that it has."""

    group: Group
    """Its rows are those that are not told of yet."""
    unit: Unit
    """What it has done and is not yet published."""
    actor: Any = None
    heard: float = 0.0
    """When there was a word of it last."""
    num_deaths: int = 0
    """How many processes died that had this video."""
    num_openings: int = 0
    """Since its engines were open last; 0 while they are."""
    num_unavailable: int = 0
    """Videos in a row that no server took."""

    def note(self, rows: Sequence[Row]) -> None:
        """Take rows out that have an answer or an error."""
        told = {row.position for row in rows}
        left = tuple(row for row in self.group.rows if row.position not in told)
        self.group = replace(self.group, rows=left)

    def fail(self, outcome: Unanswered) -> None:
        """Note that rows have no answer."""
        asked = outcome.options, outcome.queries
        self.note(self.unit.fail(self.group, outcome.kind, outcome.message, *asked))


class _Job:
    """Workers, what each is at, and answers that are not yet published."""

    def __init__(
        self,
        groups: Iterator[Group],
        directory: RunDirectory,
        work: Work,
        pool: Pool,
        on_event: Callable[[Event], None],
    ) -> None:
        import ray
        import ray.exceptions

        self._ray = ray
        self._node = ray.get_runtime_context().get_node_id()
        self._groups = groups
        self._directory = directory
        self._work = work
        self._pool = pool
        self._on_event = on_event
        self._streams: dict[Any, _Seat] = {}
        """What an actor says -> its seat."""
        self._ended: list[Unit] = []
        """What processes did that are gone."""
        self._numbers = itertools.count()
        self._started = self._published = time.monotonic()

    def run(self) -> None:
        """Score all groups."""
        try:
            # In this order, for zip takes no group where no worker is left.
            for _, group in zip(range(self._pool.number), self._groups, strict=False):
                self._open(_Seat(group=group, unit=Unit(next(self._numbers))))
            while self._streams:
                ready, _ = self._ray.wait([*self._streams], timeout=_POLL_SECONDS)
                for stream in ready:
                    self._hear(stream)
                if not ready:
                    self._require_ray()
                self._end_silent()
                self._publish_if_due()
        except self._ray.exceptions.RayError as error:
            raise UnavailableError(f"Ray broke down; it said:\n{error}") from error
        finally:
            self._publish()

    def _require_ray(self) -> None:
        """Refuse to wait for a Ray whose part on this machine has died: actors are never made."""
        nodes: Any = self._ray.nodes()  # type: ignore[no-untyped-call]
        alive = [node["NodeID"] for node in nodes if node["Alive"]]
        if self._node not in alive:
            raise UnavailableError("Ray broke down: its process on this machine (raylet) has died")

    def _open(self, seat: _Seat) -> None:
        """Have a new process open its engines."""
        actor = self._ray.remote(_Worker).options(
            num_cpus=self._pool.cpus_each, num_gpus=self._pool.gpus_each
        )
        seat.actor = actor.remote(self._work)
        seat.num_openings += 1
        self._listen(seat, seat.actor.open)

    def _listen(self, seat: _Seat, method: Any, *arguments: object) -> None:
        seat.heard = time.monotonic()
        self._streams[method.options(num_returns="streaming").remote(*arguments)] = seat

    def _hear(self, stream: Any) -> None:
        seat = self._streams[stream]
        try:
            said = self._ray.get(next(stream))
        except StopIteration:
            del self._streams[stream]
            self._go_on(seat)
            return
        except self._ray.exceptions.RayError:  # it died, or its node, or the way there is cut
            del self._streams[stream]
            self._lose(seat)
            return
        seat.heard = time.monotonic()
        # Behind all others, so that each is heard.
        self._streams[stream] = self._streams.pop(stream)
        match said:
            case JobError():
                raise said
            case (host, pid):
                seat.unit = Unit(next(self._numbers), host=host, pid=pid)
            case Answered(options=options, result=result):
                seat.note(seat.unit.add(seat.group, options, result))
                seat.num_unavailable = 0
            case Unanswered():
                seat.fail(said)
                self._count_unavailable(seat, said)

    def _go_on(self, seat: _Seat) -> None:
        """Give a worker what comes next, its engines being open or its video done."""
        if seat.num_openings:
            seat.num_openings = 0
        elif not self._take_group(seat):
            self._leave(seat)
            return
        seat.unit.begin()
        self._listen(seat, seat.actor.score, seat.group)

    def _take_group(self, seat: _Seat) -> bool:
        group = next(self._groups, None)
        if group is not None:
            seat.group, seat.num_deaths = group, 0
        return group is not None

    def _lose(self, seat: _Seat) -> None:
        """Go on where a process died."""
        if seat.num_openings:
            if seat.num_openings == _MAX_OPENINGS:
                raise _not_opened(f"died {_MAX_OPENINGS} times in a row")
            self._reopen(seat)
            return
        if not seat.group.rows:  # it has said why
            self._reopen(seat)
            return
        seat.num_deaths += 1
        if seat.num_deaths == _MAX_DEATHS:
            message = f"the process that scored it died, {_MAX_DEATHS} times in a row"
            self._end(seat, ErrorKind.WORKER_DIED, message)
            return
        message = f"its worker died, with the video {seat.group.place}"
        num_rows = len(seat.group.rows)
        lost = UnitLost(unit=seat.unit.done.unit, num_rows=num_rows, message=message)
        self._directory.write(lost)
        self._on_event(lost)
        self._reopen(seat)

    def _end(self, seat: _Seat, kind: ErrorKind, message: str) -> None:
        """Give up a video, and the process that had it."""
        seat.fail(Unanswered(kind=kind, message=message))
        self._reopen(seat)

    def _reopen(self, seat: _Seat) -> None:
        """Have a new process do what is left of the video, else the next."""
        self._leave(seat)
        if seat.group.rows or self._take_group(seat):
            self._open(seat)

    def _leave(self, seat: _Seat) -> None:
        self._ray.kill(seat.actor)
        self._ended.append(seat.unit)
        seat.unit = Unit(next(self._numbers))

    def _end_silent(self) -> None:
        now = time.monotonic()
        for stream, seat in [*self._streams.items()]:
            silence = now - seat.heard
            if seat.num_openings:
                # One that waits for room in the cluster does not stop the others.
                is_alone = all(one.num_openings for one in self._streams.values())
                if is_alone and silence > _OPEN_SECONDS:
                    raise _not_opened("hung")
            elif silence > self._work.silence_seconds and not self._has_more(stream):
                del self._streams[stream]
                message = (
                    f"it hung for {self._work.silence_seconds:g} s where no deadline ends it, so "
                    "its process was ended"
                )
                self._end(seat, ErrorKind.TIMEOUT, message)

    def _has_more(self, stream: Any) -> bool:
        """Tell whether there is a word that was not heard yet, as after a slow publication."""
        ready, _ = self._ray.wait([stream], timeout=0)
        return bool(ready)

    def _count_unavailable(self, seat: _Seat, outcome: Unanswered) -> None:
        if outcome.kind is ErrorKind.UNAVAILABLE and outcome.is_asked:
            seat.num_unavailable += self._work.source.is_shared
        if seat.num_unavailable == _MAX_UNAVAILABLE:
            raise JobError(f"no server took {_MAX_UNAVAILABLE} videos in a row: {outcome.message}")

    def _publish_if_due(self) -> None:
        now = time.monotonic()
        least, most = _PUBLISH_SECONDS
        pause = min(max(least, (now - self._started) * _PUBLISH_SHARE), most)
        num_rows = sum(seat.unit.num_rows for seat in self._streams.values())
        if num_rows >= _MAX_ROWS or now - self._published >= pause:
            self._publish()
            self._published = now

    def _publish(self) -> None:
        units, self._ended = self._ended, []
        for seat in self._streams.values():
            if seat.unit.num_rows:
                units.append(seat.unit)
                seat.unit = Unit(next(self._numbers), after=seat.unit)
        # Nothing is held any more: what is interrupted here is not published a second time.
        if units := [unit for unit in units if unit.num_rows]:
            for event in self._directory.publish(units):
                self._on_event(event)


def _not_opened(what: str) -> JobError:
    return JobError(
        f"the process that opens a worker's engines {what}; Ray's log of the worker may say why, "
        "and the kernel's, whether memory ran out"
    )
