"""A job: Ray Data gives units to workers, and one process publishes what they have done.

Seen with Ray 2.60: an actor that dies is started again and its tasks, told not to be retried, fail
and are left out (`max_errored_blocks`), also those that only waited for it. An actor whose
constructor raises, or that ends by itself, is not replaced, and a dataset without actors waits for
ever: nothing here raises in a constructor, and workers end themselves by SIGKILL alone. Where Ray
itself dies, this process ends with it, and a resume goes on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import math
import os
import pickle
import secrets
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from groundserve.batch.engines import Source
from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import Event, RowFailed, Started, UnitLost
from groundserve.batch.frame_output import FrameOutput
from groundserve.batch.plan import Plan
from groundserve.batch.run_directory import RunDirectory
from groundserve.batch.shards import Receipt, Staging
from groundserve.batch.storage import open_storage
from groundserve.batch.units import Unit, UnitSize
from groundserve.batch.work import DEFAULT_DEADLINE_SECONDS, HANG_SECONDS, Work
from groundserve.batch.worker import UnitScorer
from groundserve.errors import (
    GroundserveError,
    InvalidRequestError,
    MissingExtraError,
    UnavailableError,
)
from groundserve.limits import MIB
from groundserve.runtime.cpus import available_cpus
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD

RAY_ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable, Ray's own, with the address of a Ray that runs already."""
_RESERVED_SHARE = 0.9
"""Of a worker's cores, what it reserves: the rest is for Ray's own tasks, which would starve."""
_START_SECONDS = 1800.0
"""How long a worker may take to start and open its engines, on a cluster that must first grow."""
_OBJECT_STORE_BYTES = 128 * MIB
"""Places of units and receipts alone go through it; Ray wants 75 MiB or more."""
_IN_FLIGHT = 2
"""Units given to a worker at a time: the next one is there when one is done."""
_MAX_PARENT_CHARACTERS = 8
"""Ray makes sockets below its folder, whose names are 107 characters at most."""
_CLEAR_SECONDS = 10.0
_SETTINGS = {
    # Told nobody, and quiet: what the job says comes from its receipts.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Else what still works when Ray has ended starts another one, in a folder of its own.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Else workers are niced by 15: whoever wants a job to stand back says so (nice).
    "RAY_worker_niceness": "0",
    # Ray 2.60 announces that it will no longer hide GPUs from tasks that reserve none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment of Ray, where the user has not set it."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many workers there are, and what each may use."""

    count: int | None = None
    """How many; as many as there are cores, or GPUs where they use those, if None."""
    cpus_each: float = 1.0
    """Cores of each, and as many threads."""
    gpus_each: float = 0.0
    """GPUs of each; a half lets two share one."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise InvalidRequestError(f"--workers must be >= 1, got {self.count}")
        if not 0 < self.cpus_each < math.inf:
            raise InvalidRequestError(
                f"--cpus-per-worker must be a number > 0, got {self.cpus_each}"
            )
        if not 0 <= self.gpus_each < math.inf:
            raise InvalidRequestError(
                f"--gpus-per-worker must be a number >= 0, got {self.gpus_each}"
            )

    def number(self, *, num_cpus: float, num_gpus: float, is_local: bool) -> int:
        """Return how many workers there are on a Ray with this many cores and GPUs.

        Raises:
            InvalidRequestError: Ray was started here, and this machine has no room for one.
        """
        ratios = [("cores", num_cpus / self.cpus_each)]
        if self.gpus_each:
            ratios.append(("GPUs", num_gpus / self.gpus_each))
        what, most = min(ratios, key=lambda ratio: ratio[1])
        if is_local and most < 1:
            raise InvalidRequestError(
                f"a worker wants more {what} than this machine has; "
                "lower --cpus-per-worker or --gpus-per-worker"
            )
        return self.count or max(1, int(most))


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """The workers as Ray has them."""

    number: int
    cpus_each: float
    """Cores that one reserves."""
    gpus_each: float


def uses_external_ray() -> bool:
    """Tell whether the environment names a Ray that runs already; an empty name is none."""
    return bool(os.environ.get(RAY_ADDRESS_VARIABLE))


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
    once more, each video alone; one that is lost again is an error of kind WorkerDied. For the main
    thread: Ray ends with the thread that started it.

    Args:
        plan: What there is to do.
        directory: Where answers go; `finish` is left to the caller.
        source: Opens the scorers.
        engine_id: Of the engines that the run is bound to.
        manifest: What the journal calls the manifest.
        workers: Who scores; as many as there are cores where None.
        deadline_seconds: Longest time of one call of a scorer.
        hang_seconds: By how much a call may pass that before its worker is ended.
        span_threshold: As of `groundserve.spans.find_spans`.
        span_gap_seconds: As of `groundserve.spans.find_spans`.
        frames: Where selected frames are written as images; None: nowhere.
        on_event: Hears of all that happens, in this thread.

    Raises:
        GroundserveError: The job cannot go on: engines that cannot be opened or are others, servers
            that are gone, a run directory that cannot be written to, a Ray that does not run. What
            was published stays.
    """
    workers = workers or Workers()
    counts = plan.counts

    def tell(event: Event) -> None:
        directory.write(event)
        on_event(event)

    def started(number: int) -> Started:
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

    if not counts.num_to_do:
        tell(started(0))
        return
    work = Work(
        source=source,
        engine_id=engine_id,
        staging=directory.staging,
        num_threads=max(1, int(workers.cpus_each)),
        deadline_seconds=deadline_seconds,
        hang_seconds=hang_seconds,
        span_threshold=span_threshold,
        span_gap_seconds=span_gap_seconds,
        frames=frames,
    )
    with _started_ray(workers, directory.place) as pool:
        tell(started(pool.number))
        suspects: list[Unit] = []
        size = UnitSize.for_job(counts.num_groups, workers=pool.number)
        for found in _score(plan.units(size), work, pool):
            if isinstance(found, Receipt):
                on_event(directory.publish(found))
            else:
                tell(_lost(found, "its worker died"))
                suspects += found.alone()
        for found in _score(suspects, work, pool):
            if isinstance(found, Receipt):
                on_event(directory.publish(found))
            else:
                message = "the worker died twice with this video, at last with it alone"
                directory.write(*_failures(found, message))
                tell(_lost(found, message))


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


@contextmanager
def _started_ray(workers: Workers, place: str) -> Iterator[_Pool]:
    """Start a Ray of this machine's, or connect to the one that RAY_ADDRESS names.

    Raises:
        MissingExtraError: Ray is not installed.
        UnavailableError: It does not start, or does not answer.
        InvalidRequestError: This machine has no room for a worker.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("batch", "ray")
    is_local = not uses_external_ray()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if is_local:
        # Ray listens on all interfaces and runs what it is sent. Without a token of our own it
        # would write one into the user's home.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    on_terminate = signal.getsignal(signal.SIGTERM)
    import ray
    import ray.data

    with _folders(place) as folders, warnings.catch_warnings():
        # Of its own settings, and of `max_restarts`, for which 2.60 has no other place yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        local: dict[str, Any] = {
            "address": "local",
            "num_cpus": available_cpus(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            # Ray opens its own folder to everybody; the one around it is this user's.
            "_temp_dir": os.path.join(folders[-1], "r"),
        }
        try:
            # Copies of videos and the like go with the folder, however their process ended.
            with _quiet(), _environment(TMPDIR=folders[0]):
                ray.init(
                    **(local if is_local else {}), log_to_driver=False, logging_level="critical"
                )
        except Exception as error:  # it has many, and plain ones of Python's
            ray.shutdown()
            what = "Ray did not start"
            if not is_local:
                address = os.environ[RAY_ADDRESS_VARIABLE]
                what = f"no Ray can be used at {RAY_ADDRESS_VARIABLE}={address}"
            raise UnavailableError(f"{what}; it said:\n{error}") from error
        finally:
            signal.signal(signal.SIGTERM, on_terminate)  # for which Ray has a handler of its own
        try:
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            context = ray.data.DataContext.get_current()
            context.print_on_execution_start = context.enable_progress_bars = False
            context.max_errored_blocks = -1  # the units of workers that died
            total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            num_cpus = total.get("CPU", 0.0)
            number = workers.number(
                num_cpus=num_cpus, num_gpus=total.get("GPU", 0.0), is_local=is_local
            )
            cpus_each = workers.cpus_each
            if is_local:  # more workers than cores share them
                cpus_each = min(cpus_each, num_cpus / number)
            yield _Pool(
                number=number, cpus_each=_RESERVED_SHARE * cpus_each, gpus_each=workers.gpus_each
            )
        finally:
            ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let no C++ print to stderr that it prints nothing."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {**os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in values if name in before})


@contextmanager
def _folders(place: str) -> Iterator[Sequence[str]]:
    """Yield a folder for what workers write; the last is Ray's, which may need a shorter name.

    Names follow from the run, so that the next attempt removes what a killed one has left.
    """
    digest = hashlib.sha256(f"{os.getuid()} {place}".encode()).hexdigest()[:10]
    parents = [tempfile.gettempdir()]
    if len(parents[0]) > _MAX_PARENT_CHARACTERS:
        parents.append("/tmp")
    folders = [f"{parent}/groundserve-ray-{digest}" for parent in parents]
    _clear(folders)
    for folder in folders:
        os.mkdir(folder, 0o700)
    try:
        yield folders
    finally:
        _clear(folders)


def _clear(folders: Sequence[str]) -> None:
    give_up = time.monotonic() + _CLEAR_SECONDS
    for folder in folders:
        # Ray's last processes may still write to it.
        while os.path.exists(folder) and time.monotonic() < give_up:
            shutil.rmtree(folder, ignore_errors=True)


def _score(units: Iterable[Unit], work: Work, pool: _Pool) -> Iterator[Receipt | Unit]:
    """Have units scored, in any order; at the end yield those whose worker died.

    The units lie in a file that workers read them from: nothing grows with them but their number.

    Raises:
        UnavailableError: Ray broke down.
        GroundserveError: The job cannot go on.
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
