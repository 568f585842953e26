"""A job: Ray Data gives units to workers, and one process publishes what they have done.

Seen with Ray 2.60: an actor that dies is started again and its tasks, told not to be retried, fail
and are left out (`max_errored_blocks`), also those that only waited for it. An actor whose
constructor raises, or that ends by itself, is not replaced, and a dataset without actors waits for
ever: nothing here raises in a constructor, and workers end themselves by SIGKILL alone. Where Ray
itself dies, this process ends with it, and a resume goes on.
"""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import Event, RowFailed, Started, UnitLost
from groundserve.batch.group_scorer import Work
from groundserve.batch.plan import Plan
from groundserve.batch.ray_pool import Pool, Workers, started_ray
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import Receipt, Staging
from groundserve.batch.storage import open_storage
from groundserve.batch.units import Unit, UnitSize
from groundserve.batch.worker import UnitScorer
from groundserve.errors import (
    GroundserveError,
    UnavailableError,
)

_START_SECONDS = 1800.0
"""How long a worker may take to start and open its engines, on a cluster that must first grow."""
_IN_FLIGHT = 2
"""Units given to a worker at a time: the next one is there when one is done."""


def run_job(
    plan: Plan,
    directory: RunDirectory,
    work: Work,
    *,
    workers: Workers,
    manifest: str,
    on_event: Callable[[Event], None],
) -> None:
    """Do all that a plan has left; each unit is published as soon as it is done.

    A unit whose worker died, which no video should be able to bring about (`UnitScorer`), is done
    once more, each video alone; one that is lost again is an error of kind WorkerDied. For the main
    thread: Ray ends with the thread that started it.

    Args:
        plan: What there is to do.
        directory: Where answers go; `finish` is left to the caller.
        work: How a unit is scored.
        workers: Who scores.
        manifest: What the journal calls the manifest.
        on_event: Hears of all that happens, in this thread.

    Raises:
        GroundserveError: The job cannot go on: engines that cannot be opened or are others, servers
            that are gone, a run directory that cannot be written to, a Ray that does not run. What
            was published stays.
    """
    num_groups = plan.counts.num_groups

    def tell(*happened: Event) -> None:
        directory.write(*happened)
        on_event(happened[-1])

    def run(units: Iterable[Unit]) -> Iterator[Unit]:
        """Publish what is done; yield units whose worker died."""
        for found in _score(units, work, pool):
            if isinstance(found, Receipt):
                on_event(directory.publish(found))
            else:
                yield found

    if not plan.counts.num_to_do:
        tell(_started(plan, 0, manifest))
        return
    with started_ray(workers) as pool:
        tell(_started(plan, pool.number, manifest))
        suspects: list[Unit] = []
        for unit in run(plan.units(UnitSize.for_job(num_groups, workers=pool.number))):
            tell(_lost(unit, "its worker died"))
            suspects += unit.alone()
        for unit in run(suspects):
            message = "the worker died twice with this video, at last with it alone"
            tell(*_failures(unit, message), _lost(unit, message))


def _started(plan: Plan, number: int, manifest: str) -> Started:
    counts = plan.counts
    return Started(
        num_rows=counts.num_rows,
        num_done=counts.num_done,
        num_failed=counts.num_failed,
        num_to_do=counts.num_to_do,
        num_groups=counts.num_groups,
        workers=number,
        manifest=manifest,
        failures=plan.failures_by_kind(),
    )


def _lost(unit: Unit, message: str) -> UnitLost:
    return UnitLost(
        unit=unit.number, num_rows=unit.num_rows, is_alone=unit.is_alone, message=message
    )


def _failures(unit: Unit, message: str) -> list[RowFailed]:
    return [
        RowFailed(
            id=row.id, row_key=key, video=row.video, kind=ErrorKind.WORKER_DIED, message=message
        )
        for group in unit.groups
        for row, key in zip(group.rows, group.keys, strict=True)
    ]


def _score(units: Iterable[Unit], work: Work, pool: Pool) -> Iterator[Receipt | Unit]:
    """Have units scored, in any order; at the end yield those whose worker died.

    The units lie in a file that workers read them from: nothing grows with them but their number.
    """
    import ray.data

    storage = open_storage(work.staging.place)
    name = f"{work.staging.folder}/units-{secrets.token_hex(4)}"
    places: list[int] = []
    longest_seconds = 0.0
    is_alone = False
    with storage.writing(name) as file:
        for unit in units:
            places.append(file.tell())
            pickle.dump(unit, file)
            longest_seconds = max(longest_seconds, _longest_seconds(unit, work))
            is_alone = unit.is_alone
    if not places:
        return
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = _START_SECONDS + longest_seconds
    # A block for each unit, so that a receipt comes when its unit is done. Made here and not
    # read by tasks: those would need cores that the workers have reserved.
    outcomes = ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
        _Worker,
        fn_constructor_args=(work, name),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            size=pool.number,
            # What only waits for a worker is lost with it, and would be taken for its killer.
            max_tasks_in_flight_per_actor=1 if is_alone else _IN_FLIGHT,
        ),
        num_cpus=pool.cpus_each,
        num_gpus=pool.gpus_each,
        max_restarts=-1,
        max_task_retries=0,
    )
    left = set(places)
    for place, outcome in _rows(outcomes):
        if isinstance(outcome, GroundserveError):
            raise outcome
        left.remove(place)
        yield outcome
    for place in sorted(left):
        yield _read_unit(work.staging, name, place)


def _longest_seconds(unit: Unit, work: Work) -> float:
    """Return how long a unit may take, all of whose calls take as long as they may."""
    calls = (1 + sum(1 for _ in it.calls(work.limits.max_queries)) for it in unit.groups)
    return sum(calls) * work.silence_seconds


def _rows(dataset: Any) -> Iterator[tuple[int, Receipt | GroundserveError]]:
    """Yield what workers say, as it comes."""
    import ray.exceptions

    try:
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            for place, outcome in zip(batch["place"], batch["outcome"], strict=True):
                yield int(place), pickle.loads(outcome)
    except (ray.exceptions.RayError, OSError) as error:
        raise UnavailableError(f"Ray broke down; it said:\n{error}") from error


def _read_unit(staging: Staging, name: str, place: int) -> Unit:
    with open_storage(staging.place).open(name) as file:
        file.seek(place)
        unit: Unit = pickle.load(file)
        return unit


class _Worker:
    """What each of Ray's actors runs."""

    def __init__(self, work: Work, units: str) -> None:
        self._staging = work.staging
        self._units = units
        self._scorer = UnitScorer(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        outcomes = []
        for place in batch["item"]:
            try:
                unit = _read_unit(self._staging, self._units, int(place))
                outcome: Receipt | GroundserveError = self._scorer.score(unit)
            except GroundserveError as error:  # the job's end, which Ray would only log
                outcome = error
            outcomes.append(pickle.dumps(outcome))
        return {"place": batch["item"], "outcome": outcomes}
