"""The process that talks to Ray: waves of units come in, receipts go out as they are there.

python -m groundserve.batch._cluster_program FD FOLDER..., started by `groundserve.batch.cluster`.

Seen with Ray 2.60: an actor that dies is started again and its tasks, told not to be retried, fail
and are left out (`max_errored_blocks`), also those that only waited for it. An actor whose
constructor raises, or that ends by itself, is not replaced, and a dataset without actors waits for
ever: nothing here raises in a constructor, and workers end themselves by SIGKILL alone.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import pyarrow as pa
import ray
import ray.data

from groundserve.batch.cluster import (
    Done,
    Ended,
    Failed,
    Resources,
    Wave,
    is_anothers,
)
from groundserve.batch.program import open_connection
from groundserve.batch.work import Work
from groundserve.batch.worker import UnitScorer
from groundserve.errors import GroundserveError
from groundserve.limits import MIB
from groundserve.runtime.cpus import available_cpus

_OBJECT_STORE_BYTES = 128 * MIB
"""Units and receipts alone go through it, some kilobytes each; Ray wants 75 MiB or more."""
_END_SECONDS = 4.0
"""How long another's Ray may take to see us off."""
_IN_FLIGHT = 2
"""Units given to a worker at a time: the next one is there when one is done."""


def main() -> None:
    """Serve waves until the other side closes the connection."""
    connection, folders = open_connection(sys.argv)
    waves: queue.SimpleQueue[Wave] = queue.SimpleQueue()
    # Before Ray is started: that takes long where many jobs start at once.
    threading.Thread(target=_listen, args=(connection, waves, folders), daemon=True).start()
    try:
        connection.send(_start(folders[-1]))
        # What Ray raises ends this process; the other side starts it again.
        while True:
            _run(waves.get(), connection)
    except (BrokenPipeError, ConnectionResetError):  # the other side has gone meanwhile
        _leave(folders)


def _start(folder: str) -> Resources:
    """Start Ray, or connect to what RAY_ADDRESS names."""
    is_local = not is_anothers()
    here: dict[str, Any] = {
        "address": "local",
        "num_cpus": available_cpus(),
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
        # Ray opens its own folder to everybody; the one around it is this user's.
        "_temp_dir": os.path.join(folder, "r"),
    }
    ray.init(**(here if is_local else {}), log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # the units of workers that died
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Resources(
        num_cpus=total.get("CPU", 0.0), num_gpus=total.get("GPU", 0.0), is_local=is_local
    )


def _listen(
    connection: Connection[Any, Any], waves: queue.SimpleQueue[Wave], folders: Sequence[str]
) -> None:
    """Hand waves on; when the other side is gone, end everything."""
    try:
        while True:
            waves.put(connection.recv())
    except (EOFError, OSError):
        _leave(folders)


def _leave(folders: Sequence[str]) -> NoReturn:
    """End Ray, and this process, and leave nothing."""
    if is_anothers():
        threading.Timer(_END_SECONDS, _clear, (folders,)).start()
        ray.shutdown()
    _clear(folders)


def _clear(folders: Sequence[str]) -> NoReturn:
    """Become a program that kills the rest of the session and removes the folders.

    A Ray of our own is killed, for its agents see only after a while that it has ended; and Ray's
    threads end the process that they are in as soon as its other processes are gone.
    """
    program = "from groundserve.batch.cluster import clear_session; clear_session()"
    os.execv(sys.executable, [sys.executable, "-P", "-c", program, *folders])


def _run(wave: Wave, connection: Connection[Any, Any]) -> None:
    pool = wave.pool
    ray.data.DataContext.get_current().execution_no_progress_timeout_s = wave.max_seconds
    tasks = [{"place": place, "unit": pickle.dumps(unit)} for place, unit in enumerate(wave.units)]
    # A block for each unit, so that a receipt comes when its unit is done. Made here and not read
    # by tasks: those would need cores that the workers have reserved.
    units = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    is_alone = any(unit.is_alone for unit in wave.units)
    with warnings.catch_warnings():
        # Of `max_restarts` and `max_task_retries`, for which 2.60 has no other place yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        receipts = units.map_batches(
            _Worker,
            fn_constructor_args=(pool.work,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=pool.num_workers,
                # What only waits for a worker is lost with it, and would be taken for its killer.
                max_tasks_in_flight_per_actor=1 if is_alone else _IN_FLIGHT,
            ),
            num_cpus=pool.cpus_each,
            num_gpus=pool.gpus_each,
            max_restarts=-1,
            max_task_retries=0,
        )
    for batch in receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        assert isinstance(batch, pa.Table)
        for row in batch.to_pylist():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, GroundserveError):
                connection.send(Failed(error=outcome))
                return
            connection.send(Done(place=row["place"], receipt=outcome))
    connection.send(Ended())


class _Worker:
    """What each of Ray's actors runs."""

    def __init__(self, work: Work) -> None:
        self._scorer = UnitScorer(work)

    def __call__(self, batch: pa.Table) -> dict[str, list[Any]]:
        outcomes = []
        for unit in batch["unit"].to_pylist():
            try:
                outcome: Any = self._scorer.score(pickle.loads(unit))
            except GroundserveError as error:  # the job's end, which Ray would only log
                outcome = error
            outcomes.append(pickle.dumps(outcome))
        return {"place": batch["place"].to_pylist(), "outcome": outcomes}


if __name__ == "__main__":
    main()
