"""A job: what is left goes to the workers, and what they have done is published, by one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from groundserve.batch.cluster import (
    RAY_ADDRESS_VARIABLE,
    Cluster,
    ClusterDiedError,
    Pool,
    Resources,
    Wave,
    is_anothers,
)
from groundserve.batch.engines import Source
from groundserve.batch.errors import ErrorKind, Failure
from groundserve.batch.events import Event, Said, Started, UnitLost
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.units import Unit, UnitSize
from groundserve.batch.work import DEFAULT_DEADLINE_SECONDS, HANG_SECONDS, Work
from groundserve.batch.workers import Workers as Workers  # for who runs a job, too
from groundserve.errors import UnavailableError
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

MAX_CLUSTER_DEATHS = 3
"""How often Ray may break down in a row without a unit done in between."""
_RESERVED_SHARE = 0.9
"""Of a worker's cores, what it reserves: the rest is for Ray's own tasks, which would starve."""
_MIN_WAVE_UNITS = 256
_UNITS_A_WORKER = 64
"""Units given to Ray at a time: they lie in memory, and workers start anew with each wave."""
_START_SECONDS = 1800.0
"""How long a worker may take to start and open its engines, on a cluster that must first grow."""


def run_job(
    plan: Plan,
    directory: RunDirectory,
    *,
    source: Source,
    engine_id: str,
    manifest: str,
    workers: Workers | None = None,
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
    hang_seconds: float = HANG_SECONDS,
    span_threshold: float = DEFAULT_SPAN_THRESHOLD,
    span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS,
    frames: FrameOutput | None = None,
    on_event: Callable[[Event], None],
) -> None:
    """Do all that a plan has left; each unit is published as soon as it is done.

    A unit whose worker died, which no video should be able to bring about (`UnitScorer`), is done
    once more, each video alone; one that is lost again is an error of kind WorkerDied. Where Ray
    itself breaks down it is started again.

    Args:
        plan: What there is to do.
        directory: Where answers go; `finish` is left to the caller.
        source: Opens the scorers.
        engine_id: Of the engines that the run is bound to.
        manifest: What the journal calls the manifest.
        workers: Who scores; as many as there are cores where None.
        deadline_seconds: Longest time of one call of a scorer.
        hang_seconds: By how much a call may pass that before its worker is ended.
        span_threshold: See `groundserve.spans.find_spans`.
        span_gap_seconds: See there.
        frames: Where selected frames are written as images; None: nowhere.
        on_event: Hears of all that happens, in this thread.

    Raises:
        GroundserveError: The job cannot go on: engines that cannot be opened or are others, servers
            that are gone, a run directory that cannot be written to, a Ray that does not run. What
            was published stays.
    """
    workers = workers or Workers()
    counts = plan.counts
    work = Work(
        source=source,
        engine_id=engine_id,
        staging=directory.staging,
        num_threads=workers.num_threads,
        deadline_seconds=deadline_seconds,
        hang_seconds=hang_seconds,
        span_threshold=span_threshold,
        span_gap_seconds=span_gap_seconds,
        frames=frames,
    )
    with _Job(directory, work, workers, on_event) as job:
        number = job.start() if counts.num_to_do else 0
        job.tell(
            Started(
                num_rows=counts.num_rows,
                num_done=counts.num_done,
                num_failed=counts.num_failed,
                num_to_do=counts.num_to_do,
                num_groups=counts.num_groups,
                workers=number,
                manifest=manifest,
                failures=plan.failures_by_kind(),
            )
        )
        if not number:
            return
        wave_units = max(_MIN_WAVE_UNITS, _UNITS_A_WORKER * number)
        units = plan.units(UnitSize.for_job(counts.num_groups, workers=number))
        suspects: list[Unit] = []
        for wave in _batched(units, wave_units):
            for unit in job.run(wave):
                job.tell(_lost(unit, "its worker died"))
                suspects += unit.alone()
        for wave in _batched(suspects, wave_units):
            for unit in job.run(wave):
                job.fail(unit, "the worker died twice with this video, at last with it alone")


class _Job:
    """The Ray of a job, and what is told of it."""

    def __init__(
        self,
        directory: RunDirectory,
        work: Work,
        workers: Workers,
        on_event: Callable[[Event], None],
    ) -> None:
        self._directory = directory
        self._work = work
        self._workers = workers
        self._on_event = on_event
        self._cluster: Cluster | None = None
        self._pool: Pool | None = None

    def __enter__(self) -> _Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self) -> int:
        """Start Ray; return the number of workers.

        Raises:
            UnavailableError: It does not start; where it is another's, at the first try.
        """
        resources = self._started()
        number = self._workers.number(resources)
        cpus_each = self._workers.cpus_each
        if resources.is_local:  # more workers than cores share them
            cpus_each = min(cpus_each, resources.num_cpus / number)
        self._pool = Pool(
            work=self._work,
            num_workers=number,
            cpus_each=_RESERVED_SHARE * cpus_each,
            gpus_each=self._workers.gpus_each,
        )
        return number

    def _started(self) -> Resources:
        tries = 1 if is_anothers() else MAX_CLUSTER_DEATHS
        for tries_left in reversed(range(tries)):
            self._cluster = Cluster()
            try:
                return self._cluster.resources()
            except ClusterDiedError as error:
                self._end()
                if not tries_left:
                    what = "Ray did not start"
                    if is_anothers():
                        address = os.environ[RAY_ADDRESS_VARIABLE]
                        what = f"no Ray can be used at {RAY_ADDRESS_VARIABLE}={address}"
                    raise UnavailableError(f"{what}; it said:\n{error}") from error
        raise AssertionError("the last try returns or raises")

    def run(self, units: Sequence[Unit]) -> list[Unit]:
        """Do units and publish what is done; return those whose worker died."""
        left = dict(enumerate(units))
        deaths = 0
        while left:
            try:
                for place in self._done(left):
                    del left[place]
                    deaths = 0
                break
            except ClusterDiedError as error:
                deaths += 1
                if deaths == MAX_CLUSTER_DEATHS:
                    raise UnavailableError(
                        f"Ray broke down {deaths} times in a row; it said:\n{error}"
                    ) from error
                self.tell(Said(message="Ray broke down; it is started again"))
                self._end()
        return list(left.values())

    def fail(self, unit: Unit, message: str) -> None:
        """Record that no row of a unit has an answer, for its worker died."""
        failures = [
            Failure(
                id=row.id,
                row_key=key,
                video=row.video,
                kind=ErrorKind.WORKER_DIED,
                message=message,
            )
            for group in unit.groups
            for row, key in zip(group.rows, group.keys, strict=True)
        ]
        self._directory.fail(failures)
        self.tell(_lost(unit, message))

    def tell(self, event: Event) -> None:
        """Write an event to the journal and hand it on."""
        self._directory.write(event)
        self._on_event(event)

    def _done(self, units: dict[int, Unit]) -> Iterator[int]:
        """Yield the key of each unit that was done, when it is published."""
        if self._cluster is None:
            self.start()
        assert self._cluster is not None
        assert self._pool is not None
        keys = list(units)
        wave = Wave(
            units=tuple(units.values()),
            pool=self._pool,
            max_seconds=_START_SECONDS + self._longest_seconds(units.values()),
        )
        for done in self._cluster.run(wave):
            self._on_event(self._directory.publish(done.receipt))
            yield keys[done.place]

    def _longest_seconds(self, units: Iterable[Unit]) -> float:
        """Return how long a unit may take, all of whose calls take as long as they may."""
        limits = self._work.limits
        num_calls = max(
            sum(1 + sum(1 for _ in group.calls(limits.max_queries)) for group in unit.groups)
            for unit in units
        )
        return num_calls * self._work.silence_seconds

    def _end(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def _batched(units: Iterable[Unit], size: int) -> Iterator[list[Unit]]:
    rest = iter(units)
    while batch := list(islice(rest, size)):
        yield batch


def _lost(unit: Unit, message: str) -> UnitLost:
    return UnitLost(
        unit=unit.number, num_rows=unit.num_rows, is_alone=unit.is_alone, message=message
    )
