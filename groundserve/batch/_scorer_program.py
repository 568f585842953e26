"""The process that holds a worker's scorer; whatever becomes of it, the worker lives on.

python -m groundserve.batch._scorer_program FD, started by `groundserve.batch.worker`.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from groundserve.batch.group_scorer import Broken, JobError, Ready, Work, score_group
from groundserve.batch.units import Group
from groundserve.errors import GroundserveError


def main() -> None:
    """Open a scorer, then score groups until the other side closes the connection."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    work: Work = connection.recv()
    groups: queue.SimpleQueue[Group] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, groups), daemon=True).start()
    try:
        opened = work.source.open(num_threads=work.num_threads, limits=work.limits)
    except Exception as error:
        connection.send(JobError(f"a worker cannot open its engines: {_worded(error)}"))
        raise
    with opened as scorer:
        connection.send(Ready())
        while True:
            group = groups.get()
            try:
                for outcome in score_group(scorer, group, work):
                    # The worker ends this process when it hangs. Where the worker is gone and what
                    # hangs holds the interpreter's lock, nothing of Python's can.
                    faulthandler.dump_traceback_later(2 * work.silence_seconds, exit=True)
                    connection.send(outcome)
                faulthandler.cancel_dump_traceback_later()
            except Exception as error:
                # Nobody knows in which state it left the scorer: of a GPU, mostly a broken one.
                is_job = isinstance(error, JobError)
                connection.send(error if is_job else Broken(message=_worded(error)))
                raise
            connection.send(Ready())


def _worded(error: Exception) -> str:
    return str(error) if isinstance(error, GroundserveError) else f"{type(error).__name__}: {error}"


def _listen(connection: Connection[Any, Any], groups: queue.SimpleQueue[Group]) -> None:
    """Hand groups on; when the other side is gone, end at once, amid whatever."""
    try:
        while True:
            groups.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main()
